"""The printed tables of `reenact`."""

from __future__ import annotations

from typing import Any

from fiancee_jax import cli
from fiancee_jax.evaluation.identity import WHAT

TITLES = {
    "self": "Self-reenactment (the driver is the source's identity)",
    "cross": "Cross-reenactment (the driver is another identity)",
}
GROUPS = ("yaw", "hair", "glasses")


def show(found: dict[str, Any]) -> None:
    """Prints the rows of both kinds, what they are read beside, and what is hard."""
    for kind, title in TITLES.items():
        _rows(found[kind]["rows"], f"{title}: means to the truth; m.: on its mask alone")
        print()
    beside = found["anchors"]
    cosines = {key: beside[key] for key in ("same_identity", "other_identity", "driver")}
    words = [f"{key.replace('_', ' ')} {_mean(value, 3)}" for key, value in cosines.items()]
    print(f"identity: cosine to the truth by {WHAT}")
    print(f"sources and drivers have: {', '.join(words)}; told apart {beside['told_apart']:.1%}")
    print(f"pose: degrees; in the truth itself {_mean(beside['truth_pose_error'], 2)}\n")
    for kind, title in TITLES.items():
        _groups(found[kind]["hardness"], found["max_lpips"], title)
        print()
        _ranks(found[kind]["hardness"], found["max_lpips"], title)
        print()


def _rows(rows: list[dict[str, Any]], title: str) -> None:
    headers = (
        *("row", "decoder saved", "model saved", "LPIPS", "95 %", "LPIPS m.", "VGG", "PSNR"),
        *("PSNR m.", "SSIM", "L1", "identity", "driver", "pose", "LPIPS to backbone"),
    )
    cli.print_table(headers, [_cells(row) for row in rows], title)


def _cells(row: dict[str, Any]) -> list[str]:
    saved, truth, masked = row["saved"], row["truth"], row["truth_masked"]
    low, high = truth["lpips_alex"]["interval"]
    return [
        row["label"],
        *((f"{saved[part]:.1%}" if saved else "-") for part in ("decoder", "model")),
        _mean(truth["lpips_alex"], 4),
        f"{low:.4f}-{high:.4f}",
        _mean(masked["lpips_alex"], 4),
        _mean(truth["lpips_vgg"], 4),
        *(_mean(part["psnr"], 2) for part in (truth, masked)),
        *(_mean(truth[key], 4) for key in ("ssim", "l1")),
        *(_mean(row[key], 3) for key in ("identity", "driver")),
        _mean(row["pose_error"], 2),
        _mean(row["lpips_to_backbone"], 4),
    ]


def _groups(found: dict[str, Any], limits: list[float], title: str) -> None:
    """What is hard: by yaw of the driver, hair and glasses of the source."""
    headers = ("pairs of", "number", "exit 1 to backbone", "exit 1 to truth", "backbone to truth")
    cells = [
        [
            f"{name} {group['name']}",
            group["count"],
            f"{group['to_backbone'][0]:.4f}",
            *(f"{group['to_truth'][i]:.4f}" for i in (0, -1)),
            *(f"{spent['gmacs']:.4f}" for spent in group["routed"]),
        ]
        for name in GROUPS
        for group in found[name]
    ]
    spent = tuple(f"GMACs at {limit:g}" for limit in limits)
    cli.print_table(headers + spent, cells, f"{title}: mean LPIPS-alex, and what the router spends")


def _ranks(found: dict[str, Any], limits: list[float], title: str) -> None:
    """What LPIPS-alex and the router's GMACs rise with."""
    first, routers = found["exits"][0]["rank"], [router["rank"] for router in found["routers"]]
    columns = [first["to_backbone"], first["to_truth"], found["exits"][-1]["rank"]["to_truth"]]
    cells = [
        [name, *("-" if x[name] is None else f"{x[name]:+.2f}" for x in (*columns, *routers))]
        for name in found["features"]
    ]
    headers = ("", "exit 1 to backbone", "exit 1 to truth", "backbone to truth")
    spent = tuple(f"GMACs at {limit:g}" for limit in limits)
    cli.print_table(headers + spent, cells, f"{title}: rank correlations")


def _mean(value: dict[str, Any] | None, digits: int) -> str:
    return "-" if value is None else f"{value['mean']:.{digits}f}"
