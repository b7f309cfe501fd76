"""Computes portraittalk_core/face/data/canonical_face.safetensors, the canonical face.

From scikit-image's photograph of an astronaut (NASA, public domain) and its mirror image, as seen by MediaPipe's face
mesh: turned to the front, averaged with its own reflection, the smile's gap closed.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from scipy.optimize import linear_sum_assignment
from skimage.data import astronaut

from portraittalk_core.face import topology as topo
from portraittalk_core.face.mesh.landmarks import find_portrait
from portraittalk_core.motion.rig import make_rig

OUT = Path(__file__).parents[1] / "portraittalk_core/face/data/canonical_face.safetensors"
SOURCE = "MediaPipe face mesh on scikit-image's astronaut photograph (NASA, public domain) and its mirror image"
MIRROR = torch.tensor([-1.0, 1.0, 1.0])


def main() -> None:
    """Detect, symmetrise and write the landmarks."""
    picture = torch.from_numpy(astronaut().copy())
    open_faces, faces = [], []
    for flipped in (False, True):
        view = picture.flip(1).contiguous() if flipped else picture
        rig = make_rig(find_portrait(view).landmarks)
        # she looks straight into the camera: what is upright in the picture is upright on the canonical face
        sideways = rig.axes[0]
        down = torch.nn.functional.normalize(torch.tensor([0.0, 1, 0]) - sideways * sideways[1], dim=0)
        upright = torch.stack([sideways, down, torch.linalg.cross(sideways, down)])
        open_faces.append(rig.rest @ rig.axes @ upright.T)
        faces.append((rig.rest + rig.close) @ rig.axes @ upright.T)
    # a landmark of the mirror image and the one of the reflected face that lies there are partners; found while the
    # mouth is open, where upper and lower lip are apart, and the same in both directions
    distances = torch.cdist(open_faces[1], open_faces[0] * MIRROR)
    partner = torch.from_numpy(linear_sum_assignment((distances + distances.T).numpy())[1])
    symmetric = (faces[0] + faces[0][partner] * MIRROR) / 2
    eyes = [symmetric[list(corners)].mean(0) for corners in (topo.RIGHT_EYE_CORNERS, topo.LEFT_EYE_CORNERS)]
    symmetric = (symmetric - (eyes[0] + eyes[1]) / 2) / (eyes[1] - eyes[0]).norm()
    save_file({"points": symmetric.contiguous()}, OUT, {"source": SOURCE, "unit": "inter-ocular distance"})


if __name__ == "__main__":
    main()
