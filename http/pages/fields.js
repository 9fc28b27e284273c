// The fields of a form: simple ones are controls; an object, a list and a map are fieldsets that hold others.
"use strict";
const prefix = "param-";
const nameOf = (part) => part.name.slice(prefix.length);

// The fields that lie in a box itself, not in another one in it.
function parts(box) {
  return [...box.querySelectorAll(`[name^="${prefix}"]`)].filter((part) =>
    part.parentElement.closest("fieldset, details") === box);
}

const told = (part) => JSON.stringify(read(part)) ?? "";

// Whether a field has another value than it had at first.
function changed(part) {
  if (part.dataset.kind === "object") return parts(part).some(changed);
  if (part.tagName === "FIELDSET") return told(part) !== part.dataset.before;
  if (part.type === "checkbox") return part.checked !== part.defaultChecked;
  if (part.tagName === "SELECT") return !part.selectedOptions[0]?.defaultSelected && (part.value !== "" || "null" in part.dataset);
  return part.value !== part.defaultValue;
}

// What was left alone is not sent: the service has the same defaults.
function members(box) {
  const sent = parts(box).filter((part) => "sent" in part.dataset || changed(part));
  return Object.fromEntries(sent.map((part) => [nameOf(part), read(part)]));
}

function read(part) {
  const { kind } = part.dataset;
  if (!kind) return valueOf(part);
  if (kind === "object") return members(part);
  const inner = parts(part);
  if (!inner.length && "null" in part.dataset) return null;
  if (kind === "maybe") return inner.length ? read(inner[0]) : undefined;
  if (kind === "list") return inner.map(read);
  const entries = inner.map((one) => [one.closest("li").querySelector(".key").value, read(one)]);
  const twice = entries.find(([name], place) => entries.findIndex(([other]) => other === name) < place);
  if (twice) throw new Error(`${nameOf(part)} has ${twice[0]} twice`);
  return Object.fromEntries(entries);
}

function valueOf(control) {
  if (control.type === "checkbox") return control.checked;
  const { dataset, type, value } = control;
  if (value === "" && ("null" in dataset || "json" in dataset || type === "number")) return null;
  if (type === "number") return control.valueAsNumber;
  if (!("json" in dataset)) return value;
  try {
    return JSON.parse(value);
  } catch {
    throw new Error(`${nameOf(control)} is no JSON`);
  }
}

// Give a field a value, which is then the one that it had at first.
function fill(part, value) {
  const { kind } = part.dataset;
  if (kind === "object") return fillAll(part, value, true);
  if (kind) {
    part.querySelector(".items").replaceChildren();
    for (const [name, one] of Object.entries((kind === "maybe" ? value && [value] : value) ?? {})) {
      const item = add(part);
      const key = item.querySelector(":scope > label > .key");
      if (key) key.value = name;
      fill(parts(part).at(-1), one);
    }
    part.dataset.before = told(part);
  } else if (part.type === "checkbox") {
    part.checked = part.defaultChecked = value;
  } else if (part.tagName === "SELECT") {
    for (const option of part.options) option.selected = option.defaultSelected = option.value === String(value ?? "");
  } else {
    const text = value === null ? "" : "json" in part.dataset ? JSON.stringify(value) : String(value);
    part.value = part.defaultValue = text;
  }
}

function fillAll(box, values, sent = false) {
  for (const part of parts(box)) {
    if (!(nameOf(part) in Object(values))) continue; // the job is older than this form
    if (sent) part.dataset.sent = "";
    fill(part, values[nameOf(part)]);
  }
}

// Lists and maps begin with what they hold by default.
function prepare(root) {
  for (const box of root.querySelectorAll("fieldset[data-default]")) fill(box, JSON.parse(box.dataset.default));
}

function add(box) {
  const item = box.querySelector(":scope > template").content.firstElementChild.cloneNode(true);
  box.querySelector(".items").append(item);
  prepare(item);
  count(box);
  return item;
}

function count(box) {
  const items = [...box.querySelector(".items").children];
  items.forEach((item, place) => {
    const number = item.querySelector(":scope > fieldset > legend > .number, :scope > label > .number");
    if (number) number.textContent = place + 1;
    const named = [nameOf(box), number?.textContent].filter(Boolean).join(" ");
    item.querySelector(":scope > .remove").setAttribute("aria-label", `Remove ${named}`);
  });
  box.querySelector(":scope > .add").disabled = Boolean(box.dataset.most) && items.length >= Number(box.dataset.most);
}

// The focus goes where the next thing is to be done.
document.addEventListener("click", ({ target }) => {
  const box = target.parentElement?.closest("fieldset");
  if (target.matches(".add")) {
    add(box).querySelector("input, select, textarea, button").focus();
  } else if (target.matches(".remove")) {
    target.closest("li").remove();
    count(box);
    box.querySelector(":scope > .add").focus();
  }
});
// A browser asks for nothing that it does not show.
document.addEventListener("invalid", ({ target }) => {
  const folded = target.closest("details");
  if (folded) folded.open = true;
}, true);
