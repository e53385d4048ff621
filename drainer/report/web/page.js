"use strict";
// Fetches the page again every few seconds and puts its parts in place of the old ones: one rendering, in Python, for
// those with and without JavaScript. When no answer comes, the page says so and marks its figures as old.

const EVERY_MS = 3000;
const ANSWER_WITHIN_MS = 10000;
const lost = document.getElementById("lost");
let asOf = document.querySelector('[data-live="as-of"]').textContent;

function showNew(fresh) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const newer = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
    if (newer !== null && newer.innerHTML !== part.innerHTML) {
      part.replaceChildren(...newer.childNodes);
    }
  }
  document.title = fresh.title;
  document.body.dataset.state = fresh.body.dataset.state;
  asOf = document.querySelector('[data-live="as-of"]').textContent;
}

async function refresh() {
  try {
    const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
    if (!answer.ok) {
      throw new Error(`HTTP status ${answer.status}`);
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (fresh.body.dataset.state === undefined) {
      throw new Error("not the page of drainer");
    }
    showNew(fresh);
    lost.hidden = true;
    document.body.classList.remove("old");
  } catch {
    const words = `No answer from drainer. These figures are old: they are of ${asOf}.`;
    if (lost.hidden || lost.textContent !== words) {
      lost.textContent = words;
      lost.hidden = false;
      document.body.classList.add("old");
    }
  }
}

let asking = false;

async function refreshIfSeen() {
  if (!document.hidden && !asking) {
    asking = true;
    await refresh();
    asking = false;
  }
}

setInterval(refreshIfSeen, EVERY_MS);
document.addEventListener("visibilitychange", refreshIfSeen);
