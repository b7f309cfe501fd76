"""Names of the files of the 3-D face model; without torch, so that ``--help`` starts fast."""

BFM_FILE, BFM_INDEX_FILE = "BFM_model_front.mat", "index_mp468_from_mesh35709.npy"
