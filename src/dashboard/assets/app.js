// What pages do beyond their HTML: local times, fresh contents, logs as they are written. Everything works without it.
"use strict";

const localTimes = (root) => {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.valueOf())) continue;
    time.title = at.toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
    if (time.hasAttribute("data-clock")) {
      time.title += ` (${time.dateTime})`;
      time.textContent = `${at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 })} `;
    }
    if (time.hasAttribute("data-local")) time.textContent = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  }
};

// What the server said last of each part that is live.
const seen = new WeakMap();

// Replaces what has changed of the parts that are marked as live. Whoever types there is left in peace.
const refresh = async () => {
  const parts = new URL(location.href);
  parts.searchParams.set("refresh", "true");
  const answer = await fetch(parts, { headers: { accept: "text/html" }, credentials: "same-origin" });
  if (answer.redirected) return location.assign(answer.url);
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const replacement = fresh.getElementById(part.id);
    if (!replacement || replacement.innerHTML === seen.get(part) || part.contains(document.activeElement)) continue;
    seen.set(part, replacement.innerHTML);
    part.replaceChildren(...document.importNode(replacement, true).childNodes);
    localTimes(part);
    part.classList.remove("fresh");
    void part.offsetWidth;
    part.classList.add("fresh");
  }
};

const live = () => {
  const parts = document.querySelectorAll("[data-live]");
  if (parts.length === 0) return;
  for (const part of parts) seen.set(part, part.innerHTML);
  let due = false;
  let timer;
  let last = 0;
  // At once after a while without changes; else every few seconds, however much changes.
  const soon = () => {
    if (document.hidden) { due = true; return; }
    clearTimeout(timer);
    timer = setTimeout(() => { last = Date.now(); refresh().catch(() => {}); }, Math.max(150, last + 3000 - Date.now()));
  };
  const changes = new EventSource("/changes");
  changes.addEventListener("changed", soon);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && due) { due = false; soon(); }
  });
  // Ages and usage grow without an event.
  setInterval(soon, 30000);
};

const LINES_SHOWN = 5000;

const logs = () => {
  const viewer = document.getElementById("log");
  if (!viewer) return;
  const form = document.getElementById("log-form");
  const switchLive = document.getElementById("log-live");
  let source;
  const add = (node) => {
    const atEnd = viewer.scrollHeight - viewer.scrollTop - viewer.clientHeight < 40;
    viewer.append(node);
    while (viewer.childElementCount > LINES_SHOWN) viewer.firstElementChild.remove();
    if (atEnd) viewer.scrollTop = viewer.scrollHeight;
  };
  const note = (text) => {
    const line = document.createElement("div");
    line.className = "note";
    line.textContent = text;
    add(line);
  };
  const show = ({ pod, container, at, text }) => {
    const line = document.createElement("div");
    if (form.elements.timestamps.checked) {
      const time = document.createElement("time");
      time.dateTime = at;
      time.setAttribute("data-clock", "");
      line.append(time);
      localTimes(line);
    }
    const name = document.createElement("span");
    name.className = "source";
    name.textContent = `${container}/${pod.split("-").pop()} | `;
    line.append(name, text);
    add(line);
  };
  const stop = () => { if (source) source.close(); source = undefined; };
  const start = () => {
    stop();
    viewer.replaceChildren();
    const query = new URLSearchParams(new FormData(form));
    query.delete("timestamps");
    query.delete("live");
    query.delete("previous");
    source = new EventSource(`${form.dataset.stream}?${query}`);
    source.addEventListener("line", (event) => show(JSON.parse(event.data)));
    source.addEventListener("lost", (event) => note(`${JSON.parse(event.data).lines} lines lost: this page was too slow`));
    source.addEventListener("ended", (event) => { const { pod, container } = JSON.parse(event.data); note(`${container} of ${pod} ended`); });
    source.addEventListener("gone", () => { note("the environment is gone"); stop(); });
    source.addEventListener("error", () => { if (source && source.readyState === EventSource.CLOSED) { note("the log cannot be followed"); stop(); } });
    // A stream that begins anew begins with lines that are shown already.
    let opened = false;
    source.addEventListener("open", () => { if (opened) viewer.replaceChildren(); opened = true; });
  };
  viewer.scrollTop = viewer.scrollHeight;
  switchLive.addEventListener("change", () => (switchLive.checked ? start() : stop()));
  form.addEventListener("change", (event) => { if (event.target !== switchLive && switchLive.checked) start(); });
  form.addEventListener("submit", (event) => { if (switchLive.checked && event.submitter?.id !== "log-download") { event.preventDefault(); start(); } });
  if (switchLive.checked) start();
};

// What is compared with what comes is what came, before times become local.
live();
localTimes(document);
logs();
