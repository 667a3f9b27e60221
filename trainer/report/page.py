"""The report's page: HTML and CSS with places for what `trainer.report.report` fills in."""

from __future__ import annotations

from string import Template

PAGE = Template(
    """<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content="width=device-width, initial-scale=1">
<link rel=icon href="data:,">
<title>Sentiment classifier: training report</title>
<style>
$style
header p { color: var(--soft); margin: .4rem 0 1.8rem }
.tile b { display: block; font-size: 1.8rem; line-height: 1.2; color: var(--blue) }
.tile span { color: var(--soft); font-size: .87rem }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1rem }
figure:last-child { grid-column: 1 / -1 }
figure svg { display: block; width: 100%; height: auto; max-height: 22rem }
figcaption { margin-top: .7rem }
.positive { color: var(--green) }
.negative { color: var(--red) }
.pieces { margin-top: .3rem; font-size: .82rem }
.pieces span { background: var(--tint); border-radius: 4px; padding: .05rem .35rem; margin-right: .25rem }
.pieces span { white-space: pre-wrap }
dl { display: grid; grid-template-columns: 9rem 1fr; gap: .45rem 1.2rem; font-size: .92rem }
@media (max-width: 42rem) {
  main { padding: 1.2rem .8rem 2rem }
  td, th { padding: .5rem .6rem }
  dl { grid-template-columns: 1fr; gap: 0 }
  dd { margin-bottom: .5rem }
}
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
<thead><tr><th scope=col>sentence and its subwords</th><th scope=col class=number>score</th>
<th scope=col>label</th></tr></thead>
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
