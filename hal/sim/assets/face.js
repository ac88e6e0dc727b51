"use strict";
// The front panel in the browser. It shows what the board's stream tells and
// sends each press and release as it happens; what they mean is not known here.

const WIDTH = 128, HEIGHT = 64, DOT = 6;   // pixels of the display, and their size on the canvas
const RING_MS = 10000;                     // a full ring
const LONG_MS = 700;                       // from here on the time of a hold is shown
const ASSIST_MS = 200;                     // press made by a tool that cannot hold

const $ = (id) => document.getElementById(id);
const device = document.querySelector(".device");
const keys = new Map();                    // name -> {element, time, since, wanted}
let stream = "";                           // id of our stream; empty while there is none
let sending = Promise.resolve();           // presses go one after the other, in order

// The token comes in the fragment, and is gone from the address bar at once.
function takeToken() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (found) {
    sessionStorage.setItem("token", found);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token") || "";
}
const token = takeToken();
addEventListener("hashchange", () => location.reload());

function say(text) {
  if ($("link").textContent !== text) $("link").textContent = text;
}

// ---- what the board shows

const context = $("display").getContext("2d");
let shown = "";

function paint(bits) {
  if (bits === shown) return;
  shown = bits;
  const rows = atob(bits);
  context.clearRect(0, 0, WIDTH * DOT, HEIGHT * DOT);
  context.fillStyle = "#dff4ff";
  for (let y = 0; y < HEIGHT; y++) {
    for (let x = 0; x < WIDTH; x++) {
      const i = y * WIDTH + x;
      const lit = rows.charCodeAt(i >> 3) & (0x80 >> (i & 7));
      if (lit) context.fillRect(x * DOT, y * DOT, DOT - 1, DOT - 1);
    }
  }
}

// A countdown is not read aloud each second: only what else changed is.
let announced = "";
function read(words) {
  const text = words.join(". ");
  $("display").setAttribute("aria-label", "Display: " + (text || "dark"));
  const gist = text.replace(/\d+:\d\d|\d+ ?s\b/g, "");
  if (gist !== announced) {
    announced = gist;
    $("words").textContent = text;
  }
}

function look(state) {
  paint(state.bits);
  read(state.words);
  $("light").toggleAttribute("data-lit", state.lit);
  const light = "Light: " + state.pattern;
  if ($("light").getAttribute("aria-label") !== light) $("light").setAttribute("aria-label", light);
  $("watching").toggleAttribute("data-lit", state.watching);
  const watching = state.watching ? "Somebody watches" : "Nobody watches";
  if ($("watching").getAttribute("aria-label") !== watching) $("watching").setAttribute("aria-label", watching);
  for (const [name, key] of keys) {
    const down = state.down.includes(name);
    if (down && !key.since) key.since = performance.now();
    if (!down && key.confirmed) release(name); // the board let go by itself
    if (!down && !key.wanted) key.since = 0;
    key.confirmed = down;
  }
  tick();
}

let ticking = false;
function tick() {
  let any = false;
  for (const key of keys.values()) {
    const held = key.since ? performance.now() - key.since : 0;
    any ||= held > 0 || key.since > 0;
    key.element.toggleAttribute("data-down", key.since > 0);
    key.element.toggleAttribute("data-long", held >= LONG_MS);
    key.element.style.setProperty("--share", Math.min(held / RING_MS, 1).toFixed(4));
    key.time.textContent = Math.floor(held / 1000) + " s";
  }
  if (any && !ticking) {
    ticking = true;
    requestAnimationFrame(() => { ticking = false; tick(); });
  }
}

// ---- what the hand does

function send(button, down) {
  const body = JSON.stringify({ stream, button, down });
  sending = sending.then(async () => {
    const answer = await fetch("/edge", {
      method: "POST", body, keepalive: true,
      headers: { "Content-Type": "application/json", "Keyhole-Token": token },
    });
    if (!answer.ok && down) {
      say((await answer.text()).trim());
      release(button);
    }
  }).catch(() => {});
}

function press(name) {
  const key = keys.get(name);
  if (!stream || key.wanted) return;
  key.wanted = true;
  key.confirmed = false;
  key.since = performance.now();
  send(name, true);
  tick();
}

function release(name) {
  const key = keys.get(name);
  if (!key.wanted) return;
  key.wanted = false;
  key.since = 0;
  send(name, false);
  tick();
}

function releaseAll() {
  for (const name of keys.keys()) release(name);
}
addEventListener("blur", releaseAll);
addEventListener("pagehide", releaseAll);
document.addEventListener("visibilitychange", () => { if (document.hidden) releaseAll(); });

const ICONS = {
  pair: ["M9.5 14.5l5-5", "M11 6.8l1.6-1.6a4.3 4.3 0 0 1 6.2 6.2L17.2 13", "M13 17.2l-1.6 1.6a4.3 4.3 0 0 1-6.2-6.2L6.8 11"],
  support: ["M4.5 14.5V12a7.5 7.5 0 0 1 15 0v2.5", "M4.5 13.5h2.4v5H6a1.5 1.5 0 0 1-1.5-1.5z", "M19.5 13.5h-2.4v5h.9a1.5 1.5 0 0 0 1.5-1.5z"],
  reset: ["M5.2 9.2A7.4 7.4 0 1 1 4.6 13", "M4.6 4.8v4.6h4.6"],
  other: ["M12 8v8", "M8 12h8"],
};

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  for (const d of ICONS[name] || ICONS.other) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

function span(kind, text) {
  const element = document.createElement("span");
  element.className = kind;
  element.textContent = text || "";
  return element;
}

function makeKey({ name, hint }) {
  const element = document.createElement("button");
  element.type = "button";
  element.className = "key";
  element.dataset.button = name;
  const cap = span("cap"), time = span("time");
  time.setAttribute("aria-hidden", "true");
  cap.append(icon(name), time);
  element.append(cap, span("name", name));
  if (hint) element.append(span("hint", hint));

  const space = (event) => event.key === " " || event.key === "Enter";
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    element.setPointerCapture(event.pointerId);
    press(name);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) {
    element.addEventListener(end, () => release(name));
  }
  element.addEventListener("keydown", (event) => {
    if (!space(event)) return;
    event.preventDefault();
    if (!event.repeat) press(name);
  });
  element.addEventListener("keyup", (event) => { if (space(event)) { event.preventDefault(); release(name); } });
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  // A click without a pointer or a key is a screen reader's.
  element.addEventListener("click", (event) => {
    if (event.detail !== 0) return;
    press(name);
    setTimeout(() => release(name), ASSIST_MS);
  });
  return { element, time, since: 0, wanted: false, confirmed: false };
}

function hello(front) {
  stream = front.stream;
  $("title").textContent = front.title;
  document.title = front.title + " · front panel";
  $("light").hidden = !front.light;
  $("watching").hidden = !front.watching;
  $("glass").hidden = !front.display;
  const names = front.buttons.map((b) => b.name).join();
  if (names !== [...keys.keys()].join()) {
    keys.clear();
    for (const b of front.buttons) keys.set(b.name, makeKey(b));
    $("buttons").replaceChildren(...[...keys.values()].map((k) => k.element));
  }
  device.removeAttribute("data-away");
  say("Simulated board. Hold a button as long as you would hold a real one.");
}

// ---- the stream: fetch, since an EventSource cannot send the token

async function follow() {
  const answer = await fetch("/events", { headers: { "Keyhole-Token": token }, cache: "no-store" });
  if (answer.status === 401) return false;
  if (!answer.ok) throw new Error((await answer.text()).trim());
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let pending = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return true;
    pending += value;
    for (let end; (end = pending.indexOf("\n\n")) >= 0; pending = pending.slice(end + 2)) {
      const [, event, data] = /^event: (\w+)\ndata: (.*)$/.exec(pending.slice(0, end)) || [];
      if (event === "hello") hello(JSON.parse(data));
      if (event === "look") look(JSON.parse(data));
    }
  }
}

async function main() {
  for (;;) {
    let why = "";
    try {
      if (!await follow()) {
        device.setAttribute("data-away", "");
        say("Open the link that was printed: it carries this board's token.");
        return;
      }
    } catch (error) {
      why = error instanceof TypeError ? "" : error.message;
    }
    stream = "";
    for (const key of keys.values()) { key.wanted = false; key.since = 0; }
    tick();
    device.setAttribute("data-away", "");
    say(why || "The board does not answer. Trying again…");
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
paint(btoa("\0".repeat(WIDTH * HEIGHT / 8)));
main();
