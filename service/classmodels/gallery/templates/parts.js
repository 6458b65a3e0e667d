"use strict";
// What the scripts of the gallery page share: its data, and small makers of elements. Data reaches the document through
// textContent and attributes only, never as markup.
const view = JSON.parse(document.getElementById("view").textContent);
const units = view.units;
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") element.textContent = value; else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function drawing(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const isolated = (text, properties = {}) => make("bdi", { ...properties, text });
// Attributes cannot isolate the direction of text as <bdi> does.
const oneWay = (text) => text.replace(/[\u202a-\u202e\u2066-\u2069]/g, "");
const figure = (value, digits = 4) => (value === null ? "–" : String(Number(value.toPrecision(digits))));
const percent = (p) => (p === null ? "–" : p > 0 && p < 0.01 ? "<1 %" : p < 1 && p >= 0.995 ? ">99 %" : `${Math.round(p * 100)} %`);
// The models and recipes of a unit, as far as the page has several.
const variants = view.models.length * view.recipes.length;
function variant(unit) {
  const parts = [];
  if (view.models.length > 1) parts.push(isolated(view.models[unit.model].name));
  if (parts.length && view.recipes.length > 1) parts.push(" · ");
  if (view.recipes.length > 1) parts.push(isolated(view.recipes[unit.recipe].name));
  return parts;
}
