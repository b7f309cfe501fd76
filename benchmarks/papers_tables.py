"""Published tables of the four papers, by corpus: columns as this project's metrics, and the printed numbers.

Sources: PortraitTalk, tables 1 and 2; SVP, tables 1 to 3; ControlTalk, table 1; "lip and identity priors", table 1.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of a published table."""

    title: str  # as printed
    metric: str | None  # of `metrics.registry`; None: it is not said how it is measured
    note: str = ""  # how the published number differs, as far as it is known


@dataclass(frozen=True)
class PublishedTable:
    """A published table of one corpus."""

    paper: str
    table: str
    corpus: str  # of `training.data.layouts`
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]  # a method and its numbers, as printed
    task: str = "portrait"  # "portrait": a picture driven by the film; "film": the film's own mouth


PSNR, SSIM = Column("PSNR ↑", "psnr"), Column("SSIM ↑", "ssim")
FID = Column("FID ↓", "fid", "of all frames of a test set together; here the mean over clips, which is larger")
FVD = Column("FVD ↓", "fvd", "of all clips of a test set together; here the mean over clips, which is larger")
M_LMD, F_LMD = Column("M-LMD ↓", "m_lmd"), Column("F-LMD ↓", "f_lmd")
SYNCNET = Column("SyncNet ↑", "lse_c", "named SyncNet's confidence; read as LSE-C")
ADFD = Column("ADFD ↑", "adfd")
SYNC = Column("Sync ↓", None, "not said how it is measured; no LSE")
SVP_LMD = "scale not said; its numbers on HDTF look like pixels of 512 without alignment"

_PORTRAITTALK = (PSNR, SSIM, M_LMD, F_LMD, FID, SYNCNET, ADFD)
_SVP = (FVD, FID, PSNR, SSIM, Column("F-LMD ↓", "f_lmd", SVP_LMD), Column("M-LMD ↓", "m_lmd", SVP_LMD))
_CONTROLTALK = (SSIM, FID, SYNC, M_LMD, F_LMD)
_LIP = (PSNR, SSIM, Column("LPIPS ↓", "lpips"), FID, Column("LipLMD ↓", "lmd_lip"), Column("LSE-D ↓", "lse_d"))


def _rows(text: str) -> tuple[tuple[str, ...], ...]:
    """Rows of a text: a method, two spaces or more, and its numbers."""
    pairs = (line.strip().split("  ", 1) for line in text.strip().splitlines())
    return tuple((name, *numbers.split()) for name, numbers in pairs)


TABLES = (
    PublishedTable("PortraitTalk", "1", "mead", _PORTRAITTALK, _rows("""
        MakeItTalk  19.442 0.614 2.541 2.309 37.917 5.176 0.693
        Wav2Lip  19.875 0.633 1.438 2.138 44.510 8.774 0.584
        Audio2Head  18.764 0.586 2.053 2.293 27.236 6.494 0.725
        SadTalker  19.042 0.606 2.038 2.335 39.308 7.065 0.761
        IP-LAP  19.832 0.627 2.140 2.116 46.502 4.156 0.527
        TalkLip  19.492 0.623 1.951 2.204 41.066 5.724 0.548
        EAMM  18.867 0.610 2.543 2.413 31.268 1.762 0.847
        EDTalk  21.628 0.722 1.537 1.290 17.698 8.115 0.715
        PortraitTalk  23.097 0.873 1.206 1.385 17.351 8.916 0.816""")),
    PublishedTable("PortraitTalk", "1", "hdtf", _PORTRAITTALK, _rows("""
        MakeItTalk  21.985 0.709 2.395 2.182 18.730 4.753 0.726
        Wav2Lip  22.323 0.727 1.759 2.002 22.397 9.032 0.699
        Audio2Head  21.608 0.702 1.983 2.060 29.385 7.076 0.835
        SadTalker  21.701 0.702 1.995 2.147 14.261 7.414 0.726
        IP-LAP  22.615 0.731 1.951 1.938 19.281 3.456 0.633
        TalkLip  22.241 0.730 1.976 1.937 23.850 1.076 0.518
        EAMM  19.866 0.626 2.910 2.937 41.200 4.445 0.839
        EDTalk  25.156 0.811 1.676 1.315 13.785 7.642 0.722
        PortraitTalk  27.495 0.846 1.157 1.017 11.753 8.381 0.835""")),
    PublishedTable("SVP", "1", "mead", _SVP, _rows("""
        V-Express  340.01 33.66 27.51 0.8939 5.28 8.12
        Hallo  445.49 35.06 25.84 0.8666 9.60 12.42
        AniPortrait  460.04 40.65 27.16 0.8982 5.86 9.03
        SadTalker  492.4 52.94 27.33 0.8863 7.23 11.03
        SVP  235.70 28.80 28.87 0.9126 4.64 6.45""")),
    PublishedTable("SVP", "1", "hdtf", _SVP, _rows("""
        V-Express  125.36 12.33 26.35 0.8688 30.58 35.56
        Hallo  231.96 15.31 22.44 0.8078 31.86 35.63
        AniPortrait  292.18 13.27 25.27 0.8616 31.20 36.37
        SadTalker  536.68 23.7 22.62 0.8042 28.81 32.60
        SVP  102.40 10.39 26.38 0.8800 22.95 26.01""")),
    PublishedTable("ControlTalk", "1", "hdtf", _CONTROLTALK, _rows("""
        Wav2Lip  0.62 41.25 0.52 2.25 3.27
        DINet  0.68 32.30 0.46 1.88 2.78
        DreamTalk  0.60 34.07 0.50 2.72 3.66
        EAT  0.68 46.99 0.49 2.23 2.75
        SadTalker  0.69 24.33 0.53 1.83 2.56
        ControlTalk  0.68 27.37 0.42 2.14 2.93""")),
    PublishedTable("ControlTalk", "1", "mead", _CONTROLTALK, _rows("""
        Wav2Lip  0.74 51.57 0.66 2.04 2.31
        DINet  0.73 33.96 0.60 2.50 2.34
        DreamTalk  0.54 83.66 0.67 2.97 4.31
        EAT  0.71 43.95 0.62 1.85 2.04
        SadTalker  0.64 40.92 0.64 2.75 3.74
        ControlTalk  0.71 34.62 0.62 2.49 2.67""")),
    PublishedTable("Lip and identity priors", "1", "lrw", _LIP, _rows("""
        Wav2lip  26.87 0.8897 0.0760 26.29 0.996 7.91
        PC-AVS  19.64 0.6001 0.3008 67.57 3.707 7.78
        EmoGen  19.43 0.5181 0.2424 46.54 4.800 8.74
        IPLAP  27.08 0.8903 0.0583 23.59 1.251 8.51
        DiffDub  26.27 0.8541 0.1099 27.53 3.095 8.30
        paper  30.88 0.9327 0.0356 15.05 0.985 8.14"""), "film"),
    PublishedTable("Lip and identity priors", "1", "lrs2", _LIP, _rows("""
        Wav2lip  25.82 0.8581 0.1027 18.22 1.414 6.76
        PC-AVS  18.51 0.5558 0.3626 50.76 8.412 6.78
        EmoGen  19.99 0.5115 0.2766 48.11 6.451 7.91
        IPLAP  28.28 0.8792 0.0617 15.61 1.538 7.11
        DiffDub  25.99 0.8056 0.1311 37.60 2.186 8.08
        paper, w/o Ali  25.42 0.8503 0.0978 23.31 1.574 -
        paper, w/o Lip  31.22 0.9171 0.0364 11.64 1.185 -
        paper, w/o Aud  32.70 0.9245 0.0370 10.41 1.202 7.65
        paper  32.93 0.9261 0.0355 9.89 1.128 6.97"""), "film"),
)  # fmt: skip

# tables whose experiments this command does not run: who needs them is told where else they are
ELSEWHERE = (
    ("PortraitTalk", "2", "ablation of its parts: python -m benchmarks ablation, on a toy"),
    ("SVP", "2", "neutral faces driven by other emotions on MEAD: needs trained style attention and its weights"),
    ("SVP", "3", "clustering strength by modality on MEAD: `portraittalk train style` prints it for your data"),
    ("Lip and identity priors", "2 and 3", "numbers of references: python -m benchmarks lips"),
)
