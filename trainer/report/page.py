"""The report's page: HTML and CSS with places for what `trainer.report.report` fills in."""

from __future__ import annotations

from string import Template

PAGE = Template(
    """<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content="width=device-width, initial-scale=1">
<title>Sentiment classifier: training report</title>
<style>
:root { --ink: #22303c; --soft: #5b6873; --line: #dfe4e8; --blue: #1f5fa8; --red: #a8432a; --green: #1d6b65 }
body { margin: 0; background: #f6f7f8; color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .8rem }
header p { color: var(--soft); margin: .4rem 0 1.8rem }
.tile, figure, table { background: #fff; border: 1px solid var(--line); border-radius: 8px; box-sizing: border-box }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: 1rem }
.tile { padding: 1rem 1.1rem }
.tile b { display: block; font-size: 1.8rem; line-height: 1.2; color: var(--blue) }
.tile span { color: var(--soft); font-size: .87rem }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem }
figure { margin: 0; padding: 1rem 1.1rem }
figure:last-child { grid-column: 1 / -1 }
figure svg { display: block; width: 100%; height: auto; max-height: 22rem }
figcaption { color: var(--soft); font-size: .92rem; margin-top: .7rem }
table { width: 100%; border-collapse: separate; border-spacing: 0 }
td, th { padding: .65rem 1.1rem; text-align: left; vertical-align: top }
td { border-top: 1px solid var(--line) }
th { font-size: .85rem; color: var(--soft); font-weight: 600 }
.number { font-variant-numeric: tabular-nums; text-align: right }
.positive { color: var(--green) }
.negative { color: var(--red) }
.pieces { margin-top: .3rem; font-size: .82rem }
.pieces span { background: #eef2f6; border-radius: 4px; padding: .05rem .35rem; margin-right: .25rem; white-space: pre }
dl { display: grid; grid-template-columns: 9rem 1fr; gap: .45rem 1.2rem; margin: 0; font-size: .92rem }
dt { color: var(--soft) }
dd { margin: 0; overflow-wrap: anywhere }
</style>
<main>
<header><h1>Sentiment classifier: training report</h1>
<p>Trained $created UTC. The figures are from $reviews test reviews that the model has never seen.</p></header>
<div class=tiles>
<div class=tile><b>$accuracy</b><span>labelled right at the threshold $threshold</span></div>
<div class=tile><b>$half</b><span>labelled right at 0.5</span></div>
<div class=tile><b>$auc</b><span>AUC: the chance that a positive review scores above a negative one</span></div>
<div class=tile><b>$log_loss</b><span>log loss</span></div>
<div class=tile><b>$calibration_error</b><span>expected calibration error</span></div>
</div>
<h2>Example sentences</h2>
<table>
<thead><tr><th>sentence and its subwords</th><th class=number>score</th><th>label</th></tr></thead>
<tbody>$sentences</tbody>
</table>
<h2>How it was fitted, and how well</h2>
<div class=charts>$charts</div>
<h2>Where it comes from</h2>
<dl>$facts</dl>
</main>
</html>
"""
)
