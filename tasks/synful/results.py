"""What a Synful run shows: the volume, networks and grey values in its plan, and a section with its partners in its report."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from blockwise.geometry import Domain, Region
from blockwise.task import Picture
from tasks.synful.histogram import contrast_remarks, histogram_text, sample_histogram
from tasks.synful.lookup import QUOTIENT
from tasks.synful.partners import points

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from tasks.synful.job import Job

PICTURE_SIDE = 768
"""Most voxels of a section that is drawn, along y and x."""


def describe(job: "Job") -> Mapping[str, object]:
    """Volume, networks, tiling, grey values beside those of the training, and what looks odd, for `plan`."""
    domain, warnings = job.domain, list(job.warnings)
    shown: dict[str, object] = {
        "volume": f"{' x '.join(map(str, domain.shape))} voxels of {' x '.join(f'{v:g}' for v in domain.voxel_size)} nm (z y x)",
        "mode": job.options.mode if job.predictions is None else "from stored predictions",
        "extraction context": f"{' x '.join(map(str, job.halo))} voxels",
    }
    if job.block_mask is not None:
        every = np.arange(len(job.grid)) if len(job.grid) < 10**7 else None
        shown["blocks computed"] = "as the mask says" if every is None else int(job.block_mask(every).sum())
    for network in job.networks:
        shown[f"network for {' and '.join(network.heads)}"] = f"{network.path} ({network.digest[:12]})"
    if job.raw is not None:
        found = sample(job)
        trained = dict(job.networks[0].raw_percentiles) or None
        shown["grey values"] = histogram_text(found, trained)
        if job.options.volume.normalize == "dtype":
            warnings += contrast_remarks(found, trained)
    return shown | {"warnings": warnings}


def sample(job: "Job") -> Any:
    """Grey values of a few places."""
    assert job.raw is not None
    reader = job.raw.open()
    try:
        return sample_histogram(reader)
    finally:
        reader.close()


def pictures(job: "Job", left: Mapping[str, int]) -> Sequence[Picture]:
    """The section with most partners, with raw voxels where there are any; none before partners are there.

    left : partners after each filter, told below.
    """
    from tasks.synful.cells import Cells, read_partners
    from tasks.synful.formats.stream import count_rows

    folder = Cells(job.output, "partners", job.grid).folder
    if not folder.is_dir() or not any(folder.iterdir()):
        return ()
    rows = count_rows(folder)
    if not rows:
        return ()
    z = fullest_section(folder, job.domain)
    size, origin = job.domain.voxel_size[0], job.domain.offset[0]
    low, high = (float(np.ceil(origin + n * size - QUOTIENT)) for n in (z, z + 1))
    partners = read_partners(folder, ((low, -np.inf, -np.inf), (high, np.inf, np.inf)))
    region = busiest(partners, z, job.domain)
    figure = draw(partners, region, job)
    begin = region.begin
    caption = (
        f"Partners whose post site (dot) lies in section {begin[0]} of the volume, lines lead to the pre site; "
        f"y from {begin[1]}, x from {begin[2]}. {', '.join([f'{rows:,} partners in all', *(f'{n:,} {step}' for step, n in left.items())])}."
    )
    return (Picture("partners", figure, caption),)


def curve_picture(curve: "pa.Table") -> Picture:
    """Precision, recall and F-score over the score."""
    import pyarrow.compute as pc

    from tasks.synful.curves import best, plot_curves

    finite = curve.filter(pc.is_finite(curve["min_score"]))
    shown = finite if finite.num_rows else curve
    top = best(shown)
    return Picture(
        "evaluation", plot_curves({"partners": shown}), f"Best F-score {top['f_score']:.3f}, of scores from {top['min_score']:.3g} on."
    )


def fullest_section(folder: "Path", domain: Domain) -> int:
    """The section of the volume with most post sites of a data set, of any number of rows."""
    from tasks.synful.formats.stream import batches

    counts = np.zeros(domain.shape[0], np.int64)
    for rows in batches(folder, ["post_z"]):
        section = (rows["post_z"].to_numpy() - domain.offset[0]) / domain.voxel_size[0] + QUOTIENT
        counts += np.bincount(section.astype(np.int64).clip(0, len(counts) - 1), minlength=len(counts))
    return int(counts.argmax())


def busiest(partners: "pa.Table", z: int, domain: Domain) -> Region:
    """Of a section and its partners, the square with most post sites."""
    voxels = np.floor((points(partners, "post") - np.array(domain.offset)) / np.array(domain.voxel_size) + QUOTIENT).astype(np.int64)
    side = [min(PICTURE_SIDE, n) for n in domain.shape[1:]]
    there = voxels[:, 1:] // np.array(side)
    squares, counts = np.unique(there, axis=0, return_counts=True)
    begin = (squares[counts.argmax()] * side).tolist()
    return Region((z, *begin), (z + 1, *(min(b + s, n) for b, s, n in zip(begin, side, domain.shape[1:], strict=True))))


def draw(partners: "pa.Table", region: Region, job: "Job") -> bytes:
    """A section with its partners as PNG."""
    import io

    from matplotlib.figure import Figure

    size, offset = np.array(job.domain.voxel_size), np.array(job.domain.offset)
    post, pre = ((points(partners, end) - offset) / size for end in ("post", "pre"))
    mine = np.floor(post[:, 0] + QUOTIENT).astype(int) == region.begin[0]
    figure = Figure(figsize=(8, 8 * region.shape[1] / region.shape[2]), layout="tight")
    axes = figure.add_subplot(xlabel="x (voxels)", ylabel="y (voxels)")
    (_, y0, x0), (_, y1, x1) = region.begin, region.end
    if job.raw is not None:
        reader = job.raw.open()
        axes.imshow(reader.inside(region)[0], cmap="gray", extent=(x0, x1, y1, y0), interpolation="nearest")
        reader.close()
    axes.plot(np.stack([post[mine, 2], pre[mine, 2]]), np.stack([post[mine, 1], pre[mine, 1]]), color="#ffb000", linewidth=1.2)
    axes.plot(post[mine, 2], post[mine, 1], ".", color="#dc267f", markersize=6, label="post")
    axes.plot(pre[mine, 2], pre[mine, 1], "x", color="#648fff", markersize=5, label="pre")
    axes.set(xlim=(x0, x1), ylim=(y1, y0))
    axes.legend(loc="upper right")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()
