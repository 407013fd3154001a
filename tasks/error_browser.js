"use strict";
// Drafts are untrusted: they reach the page as text nodes alone.
const {records, plots, systems, notice} = JSON.parse(document.getElementById("data").textContent);
const BATCH = 20;
const NO_ERROR = "none";
const field = name => document.getElementById(name);
const list = field("records"), more = field("more"), count = field("count");
let found = [], shown = 0;

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function chips(title, items) {
  const box = element("div", "", {class: "chips"});
  box.append(element("h4", title));
  if (!items.length) box.append(element("span", "none", {class: "absent"}));
  const entries = element("ul");
  for (const {text, kind, mark} of items) {
    const chip = element("li", "", {class: `chip ${kind}`});
    if (mark) chip.append(element("b", mark), " ");
    chip.append(text);
    entries.append(chip);
  }
  if (items.length) box.append(entries);
  return box;
}

function report(title, text, otherwise, findings, of_model) {
  const section = element("section", "", of_model ? {class: "draft"} : {});
  section.append(element("h3", title));
  section.append(text.trim() ? element("p", text.trim(), {class: "report"}) : element("p", otherwise, {class: "absent"}));
  section.append(chips("Findings in it", findings));
  if (of_model) section.append(element("p", notice, {class: "notice", role: "note"}));
  return section;
}

function article(record) {
  const made = element("article");
  made.append(element("h2", `${record.id} · ${systems[record.system]}`));
  if (plots[record.id]) {
    const paper = element("div", "", {class: "paper", tabindex: "0"});
    const alt = `12-lead ECG of ${record.id}`;
    paper.append(element("img", "", {alt, src: `data:image/png;base64,${plots[record.id]}`}));
    made.append(paper, element("p", "Scroll the ECG sideways to see all leads.", {class: "hint"}));
  }
  const reports = element("div", "", {class: "reports"});
  reports.append(report("Drafted report", record.draft, "the system wrote nothing", record.findings.draft, true));
  const reference = report("Reference report", record.reference, "none for this recording", record.findings.reference);
  if (record.findings.scp.length) reference.append(chips("SCP statements", record.findings.scp));
  reports.append(reference);
  made.append(reports);
  for (const check of record.signal) made.append(element("p", check, {class: "signal"}));
  if (record.scores.length) made.append(element("p", record.scores.join(" · "), {class: "scores"}));
  return made;
}

function showMore(number = BATCH) {
  const next = found.slice(shown, shown + number).map(article);
  list.append(...next);
  shown += next.length;
  more.hidden = shown >= found.length;
  count.textContent = `${found.length.toLocaleString("en")} of ${records.length.toLocaleString("en")} drafts`;
  return next[0];
}

function matches(record) {
  const [system, kind, finding] = ["system", "kind", "finding"].map(name => field(name).value);
  const words = field("search").value.toLowerCase().trim();
  if (system && record.system !== Number(system)) return false;
  if (kind === NO_ERROR && Object.keys(record.errors).length) return false;
  if (kind && kind !== NO_ERROR && !(kind in record.errors)) return false;
  if (finding && !(kind && kind !== NO_ERROR ? record.errors[kind] : record.codes).includes(finding)) return false;
  return !words || [record.id, record.draft, record.reference].some(text => text.toLowerCase().includes(words));
}

function filter() {
  found = records.filter(matches);
  shown = 0;
  list.replaceChildren();
  showMore();
}

for (const name of ["system", "kind", "finding"]) field(name).addEventListener("change", filter);
let pending;
field("search").addEventListener("input", () => {
  clearTimeout(pending);
  pending = setTimeout(filter, 150);
});
field("filters").addEventListener("submit", event => event.preventDefault());
field("filters").addEventListener("reset", () => setTimeout(filter));
more.addEventListener("click", () => {
  // Whoever pressed it with a key goes on reading at the first new draft.
  const first = showMore();
  first.tabIndex = -1;
  first.focus({preventScroll: true});
});
new IntersectionObserver(([entry]) => entry.isIntersecting && !more.hidden && showMore(), {rootMargin: "800px"}).observe(field("end"));
addEventListener("beforeprint", () => showMore(found.length));
filter();
