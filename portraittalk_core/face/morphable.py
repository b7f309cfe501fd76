"""A 3-D face model from the user's own files, fitted to a face's landmarks to show what expressions move where.

Source: Basel Face Model 2009 with the expressions of Guo et al., in the shape that Deep3DFaceRecon gave it; the
correspondence to MediaPipe's points is GeneFace++'s (arXiv 2305.00787).

Shapes: M matched points, I identity and E expression coefficients, F frames. Model space: about −1..1, x to the
viewer's right, y up, z towards the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..checks import check_finite, check_shape
from ..errors import InputError, MissingDependency
from ..progress import Progress
from ..types import NUM_LANDMARKS
from ..weights.load import read_tensors
from .canonical import canonical_face
from .topology import LEFT_EYE_CORNERS, LEFT_IRIS, NUM_MESH_POINTS, RIGHT_EYE_CORNERS, RIGHT_IRIS

CAMERA_DISTANCE = 10.0  # of the camera from the model's origin
NUM_NEIGHBOURS = 6  # that an unmatched point follows
MIN_MATCHED = 50
NOISE = 0.02  # model units by which landmarks of a fitted face miss, against coefficients of unit variance
NUM_ROUNDS = 30  # of the fit at most
BLOCK = 250  # frames moved at once

OBTAIN_BFM = (
    "It is made from the Basel Face Model 2009, which is free for non-commercial research after registration at "
    "https://faces.dmi.unibas.ch/bfm/ and may not be passed on; GeneFace++'s install guide tells how to prepare it."
)


@dataclass(frozen=True)
class MorphableModel:
    """Shape and its variation at the landmarks that the model knows."""

    landmarks: Tensor  # (M,) long: which of MediaPipe's 468 points
    mean: Tensor  # (M, 3) float64
    identity: Tensor  # (M, 3, I) float64
    expression: Tensor  # (M, 3, E) float64

    def __post_init__(self) -> None:
        count = len(self.landmarks)
        check_shape(self.landmarks, "M", "the face model's landmarks")
        check_shape(self.mean, f"{count} 3", "the face model's mean")
        check_shape(self.identity, f"{count} 3 I", "the face model's identities")
        check_shape(self.expression, f"{count} 3 E", "the face model's expressions")


@dataclass(frozen=True)
class FaceFit:
    """One face in terms of a morphable model, seen by a pinhole camera."""

    identity: Tensor  # (I,) float64
    expression: Tensor  # (E,) float64: what the face shows at rest
    rotation: Tensor  # (3, 3) float64
    translation: Tensor  # (3,) float64, model units
    focal_px: float  # pixels of the picture
    centre_px: Tensor  # (2,) float64: where the camera's axis meets the picture


def load_morphable(bfm_mat: Path, index_npy: Path) -> MorphableModel:
    """Read a face model and where MediaPipe's points lie on it.

    Args:
        bfm_mat: ``BFM_model_front.mat`` with meanshape, idBase and exBase.
        index_npy: ``index_mp468_from_mesh35709.npy``, (468,) vertex of each point, −1 for none.

    Raises:
        MissingDependency: a file is absent; the text says where it comes from.
        InputError: a file does not hold what it should.
    """
    for path, role in ((bfm_mat, "the face model"), (index_npy, "where MediaPipe's points lie on the face model")):
        if not Path(path).is_file():
            raise MissingDependency(f"{Path(path).name} ({role}) is not at {path}. {OBTAIN_BFM}")
    tensors = read_tensors(bfm_mat)
    missing = [name for name in ("meanshape", "idBase", "exBase") if name not in tensors]
    if missing:
        raise InputError(
            f"{Path(bfm_mat).name} lacks {', '.join(missing)}; it is not BFM_model_front.mat. {OBTAIN_BFM}"
        )
    mean, bases = tensors["meanshape"].double().flatten(), (tensors["idBase"], tensors["exBase"])
    if mean.numel() % 3 or any(base.ndim != 2 or len(base) != mean.numel() for base in bases):
        sizes = ", ".join(str(tuple(tensors[name].shape)) for name in ("meanshape", "idBase", "exBase"))
        raise InputError(
            f"{Path(bfm_mat).name} holds meanshape, idBase and exBase of sizes {sizes}, which do not match."
        )
    mean = mean.reshape(-1, 3)
    vertex = _read_index(Path(index_npy), len(mean))
    landmarks = (vertex >= 0).nonzero()[:, 0]
    vertex = vertex[landmarks]
    identity, expression = (base.reshape(len(mean), 3, -1)[vertex].double() for base in bases)
    for values in (mean, identity, expression):
        check_finite(values, f"the face model {Path(bfm_mat).name}")
    return MorphableModel(landmarks, mean[vertex] - mean.mean(0), identity, expression)


def fit_face(model: MorphableModel, points_px: Tensor) -> FaceFit:
    """Fit identity, expression and pose to landmarks by least squares of the reprojection.

    The points' x and y are matched, and the coefficients have a prior of unit variance. The camera's
    axis goes through the face and its focal length gives the face the size it has in the 224-pixel pictures that such
    models are used with, so that perspective is as strong as there, wherever in the picture the face is.

    Args:
        model: of I and E coefficients.
        points_px: (478, 3) pixels, z on x's scale.

    Raises:
        InputError: the points lie on top of each other.
    """
    check_shape(points_px, f"{NUM_LANDMARKS} 3", "the reference landmarks")
    observed = points_px.double().cpu()[model.landmarks]
    rotation, scale_px, centre_px = _posed(model.mean, observed * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    camera = (CAMERA_DISTANCE * scale_px, centre_px)
    num_identity, num_expression = model.identity.shape[2], model.expression.shape[2]
    basis = torch.cat([model.identity, model.expression], 2)
    weights, shift = basis.new_zeros(basis.shape[2]), basis.new_zeros(3)
    damping, state = 1e-3, (weights, rotation, shift)
    for _ in range(NUM_ROUNDS):
        step, cost_here = _normal_step(model.mean, basis, observed[:, :2], state, camera, damping)
        moved = _moved(state, step)
        cost_there = _cost(model.mean, basis, observed[:, :2], moved, camera)
        if cost_there < cost_here:
            state, damping = moved, damping / 4
            if cost_here - cost_there < 1e-9 * cost_here:
                break
        else:
            damping *= 8
    weights, rotation, shift = state
    identity, expression = weights.split([num_identity, num_expression])
    return FaceFit(identity, expression, rotation, shift, camera[0], centre_px)


def project(model: MorphableModel, fit: FaceFit, expression: Tensor) -> Tensor:
    """(M, 2) pixels at which a fitted face with another expression, (E,), shows the model's points."""
    posed = _shape(model, fit, expression) @ fit.rotation.T + fit.translation
    return _pictured(posed, fit.focal_px, fit.centre_px)


def displacement_px(
    model: MorphableModel,
    fit: FaceFit,
    expression: Tensor,
    rest: Tensor,
    on_progress: Progress | None = None,
) -> Tensor:
    """How far expressions move a fitted face's landmarks from where they lie at rest.

    Unmatched skin points follow their nearest neighbours on a neutral face, irises the corners of their eye.

    Args:
        model: what the coefficients mean.
        fit: the face.
        expression: (F, E) coefficients.
        rest: (E,) coefficients at which nothing is moved.
        on_progress: called with frames done and in all.

    Returns:
        (F, 478, 3) float32 pixels, z on x's scale, larger away from the viewer; exactly 0 where expression = rest.
    """
    check_shape(expression, f"F {model.expression.shape[2]}", "the expressions")
    check_shape(rest, f"{model.expression.shape[2]}", "the expression at rest")
    posed_rest = _shape(model, fit, rest) @ fit.rotation.T + fit.translation
    turned = torch.einsum("ij,mje->mie", fit.rotation, model.expression)
    depth = CAMERA_DISTANCE - posed_rest[:, 2]
    place = _pictured(posed_rest, fit.focal_px, fit.centre_px)
    followers, weights = _followers(model.landmarks)
    moved_px = torch.zeros(len(expression), NUM_LANDMARKS, 3)
    for start in range(0, len(expression), BLOCK):
        stop = min(start + BLOCK, len(expression))
        # the difference goes through the basis, not two shapes, so that no difference stays exactly none
        change = torch.einsum("mie,fe->fmi", turned, expression[start:stop].double().cpu() - rest.double().cpu())
        flat = _pictured(posed_rest + change, fit.focal_px, fit.centre_px) - place
        deep = -change[..., 2:] * fit.focal_px / depth.mean()
        shift = torch.cat([flat, deep], 2)
        moved_px[start:stop, model.landmarks] = shift.float()
        moved_px[start:stop, followers] = torch.einsum("um,fmi->fui", weights, shift).float()
        if on_progress:
            on_progress(stop, len(expression))
    return moved_px


def _read_index(path: Path, num_vertices: int) -> Tensor:
    import numpy as np

    try:
        index = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError, SyntaxError, RecursionError) as error:
        raise InputError(f"{path.name} is not a plain NumPy file ({error}); get it again. {OBTAIN_BFM}") from error
    expected = f"(468,) vertices from −1 to {num_vertices - 1}"
    if index.shape != (NUM_MESH_POINTS,) or index.dtype.kind not in "iuf":
        raise InputError(f"{path.name} must hold {expected}, but holds {index.shape} of {index.dtype}.")
    index = torch.from_numpy(index.astype(np.int64))
    if int(index.max()) >= num_vertices or int((index >= 0).sum()) < MIN_MATCHED:
        count = int((index >= 0).sum())
        raise InputError(f"{path.name} must hold {expected}, but goes to {int(index.max())} and knows {count} points.")
    return index


def _shape(model: MorphableModel, fit: FaceFit, expression: Tensor) -> Tensor:
    """(M, 3) the face in model space, before its pose."""
    return model.mean + model.identity @ fit.identity + model.expression @ expression.double().cpu()


def _pictured(posed: Tensor, focal_px: float, centre_px: Tensor) -> Tensor:
    """(…, 2) pixels of posed points (…, 3): y points down in pictures."""
    depth = CAMERA_DISTANCE - posed[..., 2:]
    return centre_px + focal_px * posed[..., :2] * posed.new_tensor([1.0, -1.0]) / depth


def _posed(mean: Tensor, observed: Tensor) -> tuple[Tensor, float, Tensor]:
    """Least-squares similarity of two 3-D shapes: rotation, pixels per unit, and the model's origin in the picture.

    Source: S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns" (1991).
    """
    middle, observed_middle = mean.mean(0), observed.mean(0)
    model_side, observed_side = mean - middle, observed - observed_middle
    spread = model_side.square().sum()
    if observed_side.square().sum() < 1e-6:
        raise InputError("all reference landmarks lie on one point; use a portrait with one clear face.")
    u, values, vh = torch.linalg.svd(observed_side.T @ model_side)
    signs = torch.ones(3, dtype=torch.float64)
    signs[2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vh))
    rotation = u @ torch.diag(signs) @ vh
    scale_px = float((values * signs).sum() / spread)
    origin = observed_middle - scale_px * rotation @ middle
    return rotation, scale_px, origin[:2] * origin.new_tensor([1.0, -1.0])


State = tuple[Tensor, Tensor, Tensor]  # coefficients (K,), rotation (3, 3), translation (3,)


def _moved(state: State, step: Tensor) -> State:
    """State updated by a step of coefficients (K), a small rotation (3) and a translation (3)."""
    weights, rotation, shift = state
    x, y, z = step[-6:-3].tolist()
    turn = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return weights + step[:-6], torch.linalg.matrix_exp(turn) @ rotation, shift + step[-3:]


def _residuals(mean: Tensor, basis: Tensor, observed: Tensor, state: State, camera: tuple[float, Tensor]) -> Tensor:
    """(2·M + K,) residuals of the fit: reprojection errors in units of their noise, and the coefficients."""
    weights, rotation, shift = state
    pictured = _pictured((mean + basis @ weights) @ rotation.T + shift, *camera)
    return torch.cat([((pictured - observed) / _noise_px(camera)).flatten(), weights])


def _cost(mean: Tensor, basis: Tensor, observed: Tensor, state: State, camera: tuple[float, Tensor]) -> float:
    return float(_residuals(mean, basis, observed, state, camera).square().sum())


def _noise_px(camera: tuple[float, Tensor]) -> float:
    return NOISE * camera[0] / CAMERA_DISTANCE


def _normal_step(
    mean: Tensor, basis: Tensor, observed: Tensor, state: State, camera: tuple[float, Tensor], damping: float
) -> tuple[Tensor, float]:
    """One Levenberg–Marquardt step of `_moved`, and the cost before it."""
    weights, rotation, shift = state
    turned = (mean + basis @ weights) @ rotation.T
    posed = turned + shift
    x, y, z = turned.unbind(1)
    none = torch.zeros_like(x)
    # columns: how a posed point moves with each coefficient, each axis of a turn, each axis of a translation
    turns = [torch.stack(columns, 1) for columns in ([none, -z, y], [z, none, -x], [-y, x, none])]
    moves = torch.cat(
        [
            torch.einsum("ij,mjk->mik", rotation, basis),
            torch.stack(turns, 2),
            torch.eye(3, dtype=torch.float64).expand(len(x), 3, 3),
        ],
        2,
    )
    depth = (CAMERA_DISTANCE - posed[:, 2])[:, None, None]
    towards = posed[:, :2, None] / depth  # coming closer moves a point away from the axis
    slopes = camera[0] / depth * (moves[:, :2] + towards * moves[:, 2:])
    slopes = slopes * slopes.new_tensor([1.0, -1.0])[:, None] / _noise_px(camera)
    prior = torch.zeros(len(weights), slopes.shape[2], dtype=torch.float64)
    prior[:, : len(weights)] = torch.eye(len(weights), dtype=torch.float64)
    jacobian = torch.cat([slopes.flatten(0, 1), prior])
    residuals = _residuals(mean, basis, observed, state, camera)
    square = jacobian.T @ jacobian
    damped = square + damping * torch.diag(square.diagonal())
    return torch.linalg.solve(damped, -jacobian.T @ residuals), float(residuals.square().sum())


def _followers(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Points outside the model (U,), and the weights with which they follow its points (U, M); rows sum to 1."""
    modelled = torch.zeros(NUM_LANDMARKS, dtype=torch.bool)
    modelled[landmarks] = True
    followers = (~modelled).nonzero()[:, 0]
    face = canonical_face().double()
    distance = torch.cdist(face[followers], face[landmarks])
    nearest, index = distance.topk(min(NUM_NEIGHBOURS, len(landmarks)), largest=False)
    share = 1 / nearest.clamp(min=1e-6).square()
    weights = torch.zeros(len(followers), len(landmarks), dtype=torch.float64)
    weights.scatter_(1, index, share / share.sum(1, keepdim=True))
    # irises turn with the eyeball, not with the lids around them: the two corners alone carry them
    place = {int(point): column for column, point in enumerate(landmarks)}
    for iris, corners in ((RIGHT_IRIS, RIGHT_EYE_CORNERS), (LEFT_IRIS, LEFT_EYE_CORNERS)):
        if all(corner in place for corner in corners):
            rows = torch.isin(followers, torch.tensor(iris))
            weights[rows] = 0.0
            weights[rows.nonzero(), torch.tensor([place[corner] for corner in corners])] = 0.5
    return followers, weights
