"""What a Synful run shows: the volume, networks and grey values in its plan, and a section with its partners in its report."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from blockwise.geometry import Region
from blockwise.task import Picture
from tasks.synful.histogram import contrast_remarks, histogram_text, sample_histogram
from tasks.synful.partners import points

if TYPE_CHECKING:
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


def pictures(job: "Job") -> Sequence[Picture]:
    """The section with most partners, with raw voxels where there are any; none before partners are there."""
    from tasks.synful.cells import Cells, read_partners

    folder = Cells(job.output, "partners", job.grid).folder
    if not folder.is_dir() or not any(folder.iterdir()):
        return ()
    partners = read_partners(folder)
    if not partners.num_rows:
        return ()
    region = busiest(partners, job)
    figure = draw(partners, region, job)
    begin = region.begin
    caption = (
        f"Partners whose post site (dot) lies in section {begin[0]} of the volume, lines lead to the pre site; "
        f"y from {begin[1]}, x from {begin[2]}. {partners.num_rows:,} partners in all."
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


def busiest(partners: "pa.Table", job: "Job") -> Region:
    """One section, and in it the square with most post sites."""
    domain = job.domain
    voxels = np.floor((points(partners, "post") - np.array(domain.offset)) / np.array(domain.voxel_size)).astype(np.int64)
    z = int(np.bincount(voxels[:, 0].clip(0)).argmax())
    side = [min(PICTURE_SIDE, n) for n in domain.shape[1:]]
    there = voxels[voxels[:, 0] == z, 1:] // np.array(side)
    squares, counts = np.unique(there, axis=0, return_counts=True)
    begin = (squares[counts.argmax()] * side).tolist()
    return Region((z, *begin), (z + 1, *(min(b + s, n) for b, s, n in zip(begin, side, domain.shape[1:], strict=True))))


def draw(partners: "pa.Table", region: Region, job: "Job") -> bytes:
    """A section with its partners as PNG."""
    import io

    from matplotlib.figure import Figure

    size, offset = np.array(job.domain.voxel_size), np.array(job.domain.offset)
    post, pre = ((points(partners, end) - offset) / size for end in ("post", "pre"))
    mine = np.floor(post[:, 0]).astype(int) == region.begin[0]
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
