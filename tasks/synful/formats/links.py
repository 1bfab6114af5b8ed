"""Links that open a volume, its segments and partners in neuroglancer. The state of the page is in the link itself."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from blockwise.storage.chunked import Node, find_array, join, node_at
from blockwise.storage.context import local_path
from blockwise.storage.opening import is_stack
from blockwise.storage.placement import multiscales
from tasks.synful.partners import POST, PRE

PAGE = "https://neuroglancer-demo.appspot.com/"
SCALES_NM = {"nm": 1.0, "um": 1e3, "mm": 1e6, "": 1.0}

SHADER = """#uicontrol float min_score slider(min=0, max=500, default=0)
void main() {
  if (prop_score() < min_score) discard;
  setColor(vec3(1.0, 0.69, 0.0));
  setEndpointMarkerColor(vec3(0.39, 0.56, 1.0), vec3(0.86, 0.15, 0.5));
}
"""
"""Lines from blue pre sites to red post sites, above a score that the viewer chooses."""

OVERLAY = """#uicontrol invlerp normalized
void main() {
  emitRGBA(vec4(0.86, 0.15, 0.5, normalized()));
}
"""
"""Probabilities over the volume, the more opaque the higher."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One source as neuroglancer reads it.

    url : with the scheme of its format, e.g. zarr3://http://host/raw.zarr/.
    transform : where it lies, for sources that do not say it themselves.
    """

    url: str
    transform: Mapping[str, Any] | None = None

    def to_json(self) -> Any:
        return self.url if self.transform is None else {"url": self.url, "transform": dict(self.transform)}


@dataclass(frozen=True, slots=True)
class Scene:
    """What a link shows; what is None is left out.

    mask, vectors : predictions that are kept; the vectors, one component at a time, are not shown until they are asked for.
    mask_scale : the value of the probability 1.
    """

    volume: Layer | None = None
    segmentation: Layer | None = None
    annotations: str | None = None
    page: str = PAGE
    mask: Layer | None = None
    vectors: Layer | None = None
    mask_scale: float = 1.0

    def link(self, position_nm: Sequence[float] | None = None, *, line: Mapping[str, Any] | None = None, field_nm: float = 2000.0) -> str:
        """A link.

        Parameters
        ----------
        position_nm : z y x, where to look.
        line : a row of partners (columns by name) that is drawn, and where to look if `position_nm` is not given.
        field_nm : about how much a panel shows.
        """
        if line is not None and position_nm is None:
            position_nm = [(line[a] + line[b]) / 2 for a, b in zip(PRE, POST, strict=True)]
        state: dict[str, Any] = {
            "dimensions": {a: [1e-9, "m"] for a in "xyz"},
            "crossSectionScale": field_nm / 500,
            "projectionScale": 2 * field_nm,
            "layers": [*self._layers(), *([_one(line)] if line is not None else [])],
            "layout": "4panel",
        }
        if position_nm is not None:
            state["position"] = [float(v) for v in position_nm][::-1]
        return f"{self.page.rstrip('/')}/#!{quote(json.dumps(state, separators=(',', ':')), safe='')}"

    def _layers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        if self.volume is not None:
            found.append({"type": "image", "name": "volume", "source": self.volume.to_json()})
        if self.mask is not None:
            shown = {"shader": OVERLAY, "shaderControls": {"normalized": {"range": [0, self.mask_scale]}}, "opacity": 1}
            found.append({"type": "image", "name": "probability", "source": self.mask.to_json(), **shown})
        if self.vectors is not None:
            found.append({"type": "image", "name": "vectors", "source": self.vectors.to_json(), "visible": False})
        if self.segmentation is not None:
            found.append({"type": "segmentation", "name": "segments", "source": self.segmentation.to_json(), "selectedAlpha": 0.2})
        if self.annotations is not None:
            found.append({"type": "annotation", "name": "partners", "source": f"precomputed://{self.annotations}", "shader": SHADER})
        return found


def _one(row: Mapping[str, Any]) -> dict[str, Any]:
    """A layer that holds one partner."""
    ends = {name: [float(row[c]) for c in columns[::-1]] for name, columns in (("pointA", PRE), ("pointB", POST))}
    line = {"type": "line", "id": str(row.get("id", 1)), **ends}
    space = {"url": "local://annotations", "transform": {"outputDimensions": {a: [1e-9, "m"] for a in "xyz"}}}
    return {"type": "annotation", "name": "partner", "source": space, "annotations": [line], "annotationColor": "#ffb000"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a volume lies, as somebody who knows says it: nm, z y x."""

    voxel_size: Sequence[float]
    offset: Sequence[float]


def layer_of(
    path: str, variable: str | None = None, *, served: str | None = None, place: Place | None = None, defaults: Sequence[str] = ()
) -> Layer | None:
    """A volume as a layer: None where neuroglancer does not read its format.

    Parameters
    ----------
    path, variable, defaults : as `open_source`.
    served : url at which the folder of a local path can be reached; without one a local volume has no layer.
    place : of a z, y, x array whose format says nothing that neuroglancer knows; by default what `open_source` finds.

    Raises
    ------
    MissingError, InputError : there is no array.
    """
    local = local_path(path)
    if local is not None and (served is None or not local.is_dir() or is_stack(local)):
        return None
    node, name = find_array(path, variable, defaults)
    root = (served or path).rstrip("/")
    if node.kind == "neuroglancer_precomputed":
        return Layer(f"precomputed://{root}/")
    scheme = {"zarr3": "zarr3", "zarr": "zarr2", "n5": "n5"}[node.kind]
    parts = (name or "").split("/") if name else []
    image = next((up for up in _parents(parts) if (found := node_at(join(path, up))) and multiscales(found.attributes)), None)
    if image is not None:
        return Layer(f"{scheme}://{join(root, image)}/")
    return Layer(f"{scheme}://{join(root, name or '')}/", None if node.kind == "n5" else _transform(node, path, variable or name, place))


def _parents(parts: Sequence[str]) -> list[str]:
    """Groups above an array, the nearest first, as names in the container."""
    return ["/".join(parts[:n]) for n in range(len(parts) - 1, -1, -1)]


def _transform(node: Node, path: str, variable: str | None, place: Place | None) -> dict[str, Any]:
    """Where an array lies that is not part of an OME-NGFF image: voxel size and offset, axis by axis."""
    from blockwise.storage import open_source

    source = open_source(path, variable)
    source.close()
    told = dict(zip("zyx", zip(place.voxel_size, place.offset, strict=True), strict=True)) if place else {}
    axes = [told.get(a, (v * SCALES_NM.get(u, 1.0), o * SCALES_NM.get(u, 1.0)))
            for a, v, o, u in zip(source.axes, source.voxel_size, source.offset, source.units, strict=True)]  # fmt: skip
    spatial = [a in ("z", "y", "x") for a in source.axes]
    dimensions = [[size * 1e-9, "m"] if is_space else [1, ""] for (size, _), is_space in zip(axes, spatial, strict=True)]
    names = [a if is_space else f"{a}'" for a, is_space in zip(source.axes, spatial, strict=True)]
    own = node.document.get("dimension_names") or [f"d{i}" for i in range(len(names))]
    matrix = [[float(i == j) for j in range(len(names))] + [offset / size] for i, (size, offset) in enumerate(axes)]
    return {
        "matrix": matrix,
        "inputDimensions": dict(zip(own, dimensions, strict=True)),
        "outputDimensions": dict(zip(names, dimensions, strict=True)),
    }
