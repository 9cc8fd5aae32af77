"""The animation as a page with a player: self-contained, for a mouse, a keyboard or a thumb."""

from __future__ import annotations

from svertka.explain.draw import style, svg
from svertka.explain.draw.frames import Frame
from svertka.explain.draw.sheets import Sheet
from svertka.explain.draw.titles import unbroken


def whole(drawn: Sheet, seconds: float) -> str:
    """A page that needs nothing but itself."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><title>{svg.escape(drawn.title)}</title>'
        f"<style>{_PAGE}</style></head><body>{player(drawn, seconds)}</body></html>"
    )


def player(drawn: Sheet, seconds: float = 0.8) -> str:
    """The player alone; without scripts it shows the first frame."""
    first = drawn.frames[0]
    count = len([name for name in drawn.slots if name.startswith("input")])
    slices = [_unit(drawn, "", f"input {i}") + _unit(drawn, "∗", f"kernel {i}") for i in range(count)]
    inputs = slices[0] if count == 1 else f"<div>{''.join(f'<div class=row>{piece}</div>' for piece in slices)}</div>"
    output = _unit(drawn, "=" if first.kernels else f"{first.operator} →", "output")
    notes = "".join(f"<small>{svg.escape(note)}</small><br>" for note in first.notes)
    return (
        f'<div class="svertka player" tabindex="0" data-seconds="{seconds:g}">'
        f"<style>{style.css()}{_CSS}</style><h1>{svg.escape(unbroken(drawn.title))}</h1>"
        f'<div class="panels {"row" if "becomes" in drawn.slots else "lines"}">{inputs}{output}</div>{notes}'
        f'<div class="foot"><div class="formula">{"".join(_formula(frame) for frame in drawn.frames)}</div>'
        f"{_CONTROLS.format(last=drawn.count - 1, count=drawn.count)}</div><script>{_SCRIPT}</script></div>"
    )


def _unit(drawn: Sheet, operator: str, name: str) -> str:
    """A panel and what stands before it, which are not parted by the end of a line."""
    if name not in drawn.slots:
        return ""
    slot = drawn.slots[name]
    body = "".join(
        f'<g data-a="{t.start}" data-b="{t.stop}"{"" if t.start == 0 else _HIDDEN}>{svg.elements(t.shapes)}</g>'
        for t in drawn.tracks
        if t.slot == name
    )
    drawing = svg.document(body, slot.width, slot.height, name, styled=False)
    sign = f'<span class="op">{svg.escape(operator)}</span>' if operator else ""
    return (
        f'<div class="unit">{sign}<div class="panel" data-name="{name}" style="flex:0 1 {slot.width:g}px">'
        f"{drawing}</div></div>"
    )


def _formula(frame: Frame) -> str:
    place = ", ".join(map(str, frame.step.output[1:]))
    *pieces, result = (f'<span class="piece">{svg.escape(piece)}</span>' for piece in frame.formula)
    return (
        f'<p data-a="{frame.number}" data-b="{frame.number + 1}"{_HIDDEN if frame.number else ""}>'
        f"<small>Output at {place}:</small> <b>{style.number(frame.step.result)}</b><br>"
        f"{' '.join(pieces)} <b>{result}</b></p>"
    )


_HIDDEN = ' style="display:none"'
_PAGE = "body{margin:0;background:#fff}@media (prefers-color-scheme:dark){body{background:#14171c}}"
_CSS = (
    ".player{box-sizing:border-box;max-width:1200px;margin:0 auto;padding:16px;background:var(--paper);"
    "color:var(--ink);outline:none;line-height:1.5;container-type:inline-size}"
    ".player h1{font-size:18px;margin:0 0 12px}.player small{color:var(--faint);font-size:13px}"
    ".player .row{display:flex;flex-wrap:wrap;align-items:center}.player .unit{display:flex;align-items:center;"
    "max-width:100%;min-width:0}.player .lines .op{display:none}"
    ".player .panel{min-width:0}.player .panel svg{display:block}"
    ".player .op{padding:22px 9px 0;color:var(--faint);font-size:20px;white-space:nowrap}"
    "@container (min-width:640px){.player .row{flex-wrap:nowrap}.player .op{padding:22px 18px 0}}"
    ".player [data-name=output]{cursor:pointer}"
    ".player .foot{position:sticky;bottom:0;background:var(--paper);border-top:1px solid var(--line);margin-top:12px;"
    "padding:8px 0}"
    ".player .formula{min-height:76px;max-height:24vh;overflow:auto;font-size:16px}.player .formula p{margin:0}"
    ".player .piece{white-space:nowrap}.player .formula b{color:var(--current)}"
    ".player .controls{display:flex;align-items:center;gap:8px;margin-top:8px}"
    ".player button{min-width:48px;height:44px;border:1px solid var(--line);border-radius:8px;background:var(--input);"
    "color:var(--ink);font:inherit;font-size:18px;cursor:pointer;touch-action:manipulation}"
    ".player button:focus-visible,.player input:focus-visible,.player:focus-visible .foot{"
    "outline:3px solid var(--current);outline-offset:2px}"
    ".player input{flex:1;min-width:60px;height:44px;accent-color:var(--current)}"
    ".player output{min-width:4.5em;text-align:right;color:var(--faint)}"
)
_CONTROLS = (
    '<div class="controls"><button data-do="back" aria-label="one step back">‹</button>'
    '<button data-do="play" aria-label="play or pause">▶\ufe0e</button>'
    '<button data-do="on" aria-label="one step on">›</button>'
    '<input type="range" min="0" max="{last}" value="0" aria-label="step"><output>1 / {count}</output></div>'
)
_SCRIPT = """
for (const root of document.querySelectorAll('.svertka.player:not([data-ready])')) {
  root.dataset.ready = 1;
  const find = (selector) => root.querySelector(selector);
  const slider = find('input'), shown = find('output'), button = find('[data-do=play]');
  const count = +slider.max + 1, pause = 1000 * root.dataset.seconds;
  const parts = [...root.querySelectorAll('[data-a]')].map((e) => [e, +e.dataset.a, +e.dataset.b]);
  let now = 0, timer = 0;
  const go = (to) => {
    now = Math.max(0, Math.min(count - 1, to));
    for (const [e, a, b] of parts) e.style.display = a <= now && now < b ? '' : 'none';
    slider.value = now;
    shown.textContent = `${now + 1} / ${count}`;
  };
  const stop = () => { clearInterval(timer); timer = 0; button.textContent = '▶\\ufe0e'; };
  const play = () => {
    if (now === count - 1) go(0);
    button.textContent = '❚❚';
    timer = setInterval(() => (now === count - 1 ? stop() : go(now + 1)), pause);
  };
  const toggle = () => (timer ? stop() : play());
  const by = (step) => { stop(); go(now + step); };
  find('[data-do=back]').onclick = () => by(-1);
  find('[data-do=on]').onclick = () => by(1);
  button.onclick = toggle;
  slider.oninput = () => { stop(); go(+slider.value); };
  const keys = { ArrowLeft: () => by(-1), ArrowRight: () => by(1), Home: () => by(-count), End: () => by(count),
    ' ': toggle };
  // A page of its own listens everywhere; among others the player must be chosen first.
  (document.body.firstElementChild === root ? document : root).addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !keys[event.key]) return;
    if (event.key === ' ' && event.target.tagName === 'BUTTON') return;
    event.preventDefault();
    keys[event.key]();
  });
  for (const page of root.querySelectorAll('[data-name=output] g[data-a]')) {
    const cells = [...page.querySelectorAll('.b-to-come')];
    find('[data-name=output]').addEventListener('click', (event) => {
      if (page.style.display === 'none') return;
      const at = cells.findIndex((cell) => {
        const box = cell.getBoundingClientRect();
        return box.left <= event.clientX && event.clientX < box.right
          && box.top <= event.clientY && event.clientY < box.bottom;
      });
      if (at >= 0) by(+page.dataset.a + at - now);
    });
  }
}
"""
