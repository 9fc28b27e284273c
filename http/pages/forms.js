// The forms: what was filled in becomes a job.
"use strict";
// A control whose value is not its default. What was left alone is not sent: the service has the same defaults.
function changed(control) {
  if (control.type === "checkbox") return control.checked !== control.defaultChecked;
  if (control.tagName === "SELECT") return !control.selectedOptions[0]?.defaultSelected && control.value !== "";
  return control.value !== control.defaultValue;
}

function valueOf(control) {
  if (control.type === "checkbox") return control.checked;
  if (control.value === "") return null;
  if (control.type === "number") return control.valueAsNumber;
  if (!("json" in control.dataset)) return control.value;
  try {
    return JSON.parse(control.value);
  } catch {
    throw new Error(`${control.name.slice("param-".length)} is no JSON`);
  }
}

function paramsOf(form) {
  const controls = [...form.elements].filter((control) => control.name.startsWith("param-") && changed(control));
  return Object.fromEntries(controls.map((control) => [control.name.slice("param-".length), valueOf(control)]));
}

async function submit(form, view) {
  const body = new FormData();
  body.set("pipeline", form.dataset.pipeline);
  body.set("params", JSON.stringify(paramsOf(form)));
  body.set("file", form.elements.file.files[0]);
  view.clear("sending");
  try {
    view.open(await askJson("/v1/jobs", { method: "POST", body }));
  } catch (error) {
    view.clear();
    throw error;
  }
}

const views = new Map();
for (const form of document.forms) {
  const view = new View(form.parentElement.querySelector(".job"));
  views.set(form.dataset.pipeline, view);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    view.trying(() => submit(form, view));
  });
}
