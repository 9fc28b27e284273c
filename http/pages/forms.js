// The forms: what was filled in becomes a job.
"use strict";
const paramsOf = (form) => {
  const fields = form.querySelector("details");
  return fields ? members(fields) : {};
};

async function submit(form, view) {
  const file = form.elements.file.files[0];
  const body = new FormData();
  body.set("pipeline", form.dataset.pipeline);
  body.set("params", JSON.stringify(paramsOf(form)));
  body.set("file", file);
  view.clear("sending");
  try {
    await file.slice(0, 1).arrayBuffer(); // where it is not there any more, that is said
    view.open(await askJson("/v1/jobs", { method: "POST", body }));
  } catch (error) {
    view.clear();
    throw error;
  }
}

const views = new Map();
for (const form of document.querySelectorAll("form[data-pipeline]")) {
  const view = new View(form.parentElement.querySelector(".job"), form.querySelector("details"));
  prepare(form);
  views.set(form.dataset.pipeline, view);
  let sending = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (sending) return; // a double click is one job
    sending = true;
    await view.trying(() => submit(form, view));
    sending = false;
  });
}
