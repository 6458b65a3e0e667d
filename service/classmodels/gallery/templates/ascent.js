"use strict";
// An ascent in the dialog: the curve of its score, and a slider through its frames.

// Round values between low and high: 1, 2 or 5 times a power of ten apart.
function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const values = [];
  for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9 && values.length < 16; k += 1) values.push(Number((k * step).toPrecision(12)));
  return values;
}

// The curve; its `mark(step)` puts the dot there and returns the score.
function curve(unit) {
  const points = view.steps[unit.steps].map((step, i) => [step, unit.scores[i]]).filter(([, score]) => score !== null);
  if (points.length < 2) return make("p", { class: "soft", text: "No score curve." });
  const [width, height, left, right, top, bottom] = [460, 230, 46, 12, 10, 38];
  const scores = points.map(([, score]) => score);
  let [low, high] = [Math.min(...scores), Math.max(...scores)];
  if (low === high) { const room = Math.max(1, Math.abs(low) / 100); low -= room; high += room; }
  const last = points[points.length - 1][0] || 1;
  const x = (step) => left + (step / last) * (width - left - right);
  const y = (score) => height - bottom - ((score - low) / (high - low)) * (height - top - bottom);
  const svg = drawing("svg", { class: "curve", viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `Raw logit by step, from ${figure(scores[0])} to ${figure(scores[scores.length - 1])}` });
  for (const value of ticks(low, high)) {
    svg.append(drawing("path", { class: "axis", d: `M${left} ${y(value).toFixed(1)}H${width - right}` }),
      drawing("text", { x: left - 6, y: (y(value) + 4).toFixed(1), "text-anchor": "end" }, figure(value)));
  }
  for (const value of ticks(0, last)) {
    if (Number.isInteger(value)) svg.append(drawing("text", { x: x(value).toFixed(1), y: height - bottom + 16, "text-anchor": "middle" }, value));
  }
  const dot = drawing("circle", { class: "end", r: 3.5 });
  svg.append(
    drawing("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "step"),
    drawing("text", { transform: `translate(11 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, "raw logit"),
    drawing("path", { class: "line", d: "M" + points.map(([step, score]) => `${x(step).toFixed(1)} ${y(score).toFixed(1)}`).join("L") }),
    dot);
  svg.mark = (step) => {
    const [at, score] = points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));
    dot.setAttribute("cx", x(at).toFixed(1));
    dot.setAttribute("cy", y(score).toFixed(1));
    return score;
  };
  svg.mark(last);
  return svg;
}

// Frames to go through: {steps, draw(context, k)}; null where the browser has none to give. A page from the disk may
// not read an animation that lies beside it, so it has a strip of frames; one that stands alone decodes its own.
async function framesOf(unit) {
  if (unit.strip) {
    const { href, width, height, steps } = unit.strip;
    const strip = new Image();
    strip.src = href;
    await strip.decode();
    return { width, height, steps, draw: (context, k) => context.drawImage(strip, k * width, 0, width, height, 0, 0, width, height) };
  }
  const [, type, data] = /^data:(image\/[a-z]+);base64,(.*)$/.exec(unit.animation?.href ?? "") ?? [];
  if (!type || !globalThis.ImageDecoder) return null;
  const decoder = new ImageDecoder({ type, data: Uint8Array.from(atob(data), (c) => c.charCodeAt(0)) });
  await decoder.tracks.ready;
  await decoder.completed;
  const count = decoder.tracks.selectedTrack.frameCount;
  const last = view.steps[unit.steps].at(-1);
  const frames = [];
  for (let k = 0; k < count; k += 1) frames.push(await createImageBitmap((await decoder.decode({ frameIndex: k })).image));
  decoder.close();
  if (count < 2) return null;
  const steps = frames.map((_, k) => Math.round((k * last) / (count - 1)));
  return { width: frames[0].width, height: frames[0].height, steps, draw: (context, k) => context.drawImage(frames[k], 0, 0) };
}

// The finished image of a unit with a canvas over it for the frames before.
function stage(unit, alt) {
  const image = make("img", { class: unit.image.width < 112 ? "large pixels" : "large", src: unit.image.href,
    width: unit.image.width, height: unit.image.height, alt });
  const canvas = make("canvas", { class: "large", hidden: "", "aria-hidden": "true" });
  return { unit, image, canvas, box: make("div", { class: "stage" }, image, canvas), frames: null };
}

// A slider through the ascents on these stages, all at the same share of their steps; told(stage, step) at each move.
function slider(stages, told = () => {}) {
  const range = make("input", { type: "range", min: "0", max: "0", value: "0", id: "ascent", "aria-label": "How far the ascent has come" });
  const said = make("output", { for: "ascent", class: "soft" });
  const row = make("div", { class: "slider", hidden: "" }, range, said);
  const go = () => {
    const share = Number(range.value) / Number(range.max);
    let step = 0;
    for (const one of stages) {
      const frames = one.frames;
      const last = view.steps[one.unit.steps].at(-1);
      const k = frames ? Math.round(share * (frames.steps.length - 1)) : 0;
      const done = !frames || share === 1;
      one.canvas.hidden = done;
      one.image.classList.toggle("under-canvas", !done);
      if (!done) frames.draw(one.canvas.getContext("2d"), k);
      step = done ? last : frames.steps[k];
      told(one, step);
    }
    const words = stages.length === 1 ? `step ${step} of ${view.steps[stages[0].unit.steps].at(-1)}` : `${Math.round(share * 100)} % of the steps`;
    said.textContent = words;
    range.setAttribute("aria-valuetext", words);
  };
  range.addEventListener("input", go);
  for (const one of stages) {
    framesOf(one.unit).then((frames) => {
      if (!frames) return;
      one.frames = frames;
      [one.canvas.width, one.canvas.height] = [frames.width, frames.height];
      const most = Math.max(Number(range.max), frames.steps.length - 1);
      if (row.hidden || Number(range.value) === Number(range.max)) { range.max = most; range.value = most; } else range.max = most;
      row.hidden = false;
      go();
    }).catch(() => {});  // a strip that is gone: the animation still plays
  }
  return row;
}
