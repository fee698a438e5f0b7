// The page's state, what the server tells it, and what a click asks of the server.

import * as view from './view.js';

const BATCHES_SHOWN = 20;
const REQUESTS_SHOWN = 10;
// Each kind's one parameter: its name on the wire, its label, what it is at first.
const KINDS = {
  'delay': ['ms', 'Milliseconds', 2000], 'answer-lost': null, 'duplicate': null, 'reset': null, 'black-hole': null,
  'refuse': null, 'internal': null, 'unavailable': ['retryAfterS', 'Retry-After, seconds', 5],
  'too-many-requests': ['retryAfterS', 'Retry-After, seconds', 5], 'back-off': ['ms', 'Back-off, ms', 5000],
  'can-retry': null, 'unauthorized': null, 'over-budget': null, 'device-gone': null, 'too-large': null,
  'bad-request': null, 'html': ['status', 'Status', 502], 'redirect': ['location', 'Location', 'https://relay.example/'],
  'slow-bytes': ['rateBytes', 'Bytes per second', 20], 'cut': ['afterBytes', 'After bytes', 10],
  'clock-offset': ['ms', 'Milliseconds ahead', 600000], 'no-tolerance': null, 'retry-after': ['value', 'Retry-After', '4.5'],
};
// Only a relay can do these.
const RELAYS_OWN = ['back-off', 'can-retry', 'over-budget', 'device-gone'];

const $ = (id) => document.getElementById(id);
const state = { mailboxes: new Map(), devices: new Map(), tokens: new Map(), batches: [], requests: 0, faults: [], filter: '' };
const drawn = new Map();
let isDue = false;

// ---- what the server tells

function takeDevices(devices) {
  for (const device of devices) {
    const key = `${device.appId}/${device.deviceId}`;
    const before = state.devices.get(key);
    device.isFresh = before !== undefined && before.badge !== device.badge;
    state.devices.set(key, device);
  }
}

function takeBatches(batches) {
  const known = new Set(state.batches.map((batch) => batch.number));
  const fresh = batches.filter((batch) => !known.has(batch.number));
  state.batches = [...state.batches, ...fresh].slice(-BATCHES_SHOWN);
  for (const batch of fresh.slice(-BATCHES_SHOWN)) $('batches').prepend(view.batch(batch, (number) => state.tokens.get(number)));
  while ($('batches').children.length > BATCHES_SHOWN) $('batches').lastChild.remove();
  $('no-batches').hidden = state.batches.length > 0;
}

function takeTokenService({ isUp, keys, requests }) {
  state.isTokenServiceUp = isUp;
  state.hasNextKey = keys.next !== null;
  $('token-service').textContent = isUp ? 'up' : 'down';
  $('token-service').className = `pill ${isUp ? 'up' : 'down'}`;
  $('token-service-switch').textContent = isUp ? 'Stop' : 'Start';
  $('keys').replaceChildren(...view.keys(keys));
  $('rotate').textContent = state.hasNextKey ? 'Sign with next key' : 'Publish next key';
  $('rotate').title = state.hasNextKey ? 'The previous key stays published' : 'Its documents list a key that does not sign yet';
  $('forget').hidden = keys.previous === null;
  for (const request of requests.filter(({ number }) => number > state.requests)) {
    $('requests').prepend(view.request(request));
    state.requests = request.number;
  }
  while ($('requests').children.length > REQUESTS_SHOWN) $('requests').lastChild.remove();
  $('no-requests').hidden = state.requests > 0;
}

function takeRelay({ isUp, figures, tokens, tenants, faults, quirks, tokenService }) {
  takeTokenService(tokenService);
  state.tokens = new Map(tokens.map((token) => [token.number, token]));
  state.isUp = isUp;
  $('tenants').replaceChildren(...tenants.map(view.tenant));
  const { totals, statuses } = figures;
  const refused = Object.entries(statuses).filter(([status]) => status !== '200').reduce((sum, [, times]) => sum + times, 0);
  $('figures').replaceChildren(
    view.figure('batches', totals.batches), view.figure('icons changed', totals.shown), view.figure('repeated', totals.repeated),
    view.figure('stale', totals.stale), view.figure('other answers', refused), view.figure('phones', figures.devices),
  );
  $('relay').textContent = isUp ? 'relay is up' : 'relay is down';
  $('relay').className = `pill ${isUp ? 'up' : 'down'}`;
  $('relay-switch').textContent = isUp ? 'Stop relay' : 'Start relay';
  $('relay-switch').hidden = false;
  $('quirks').replaceChildren(...quirks.map((quirk) => view.quirk(quirk, (name) => setQuirk(name, false))));
  $('faults').replaceChildren(...faults.map((fault) => view.fault(fault, (id, peer) => ask('DELETE', `/control/faults/${id}?peer=${peer}`))));
}

const HEARD = {
  devices: (devices) => { takeDevices(devices); draw(); },
  mailboxes: (boxes) => { for (const box of boxes) state.mailboxes.set(box.name, box); draw(); },
  batches: takeBatches,
  relay: takeRelay,
};

// ---- drawing

// Many events may come between two frames; one drawing is enough.
function draw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => { isDue = false; drawMailboxes(); });
}

function drawMailboxes() {
  const of = new Map();
  const strangers = [];
  for (const device of state.devices.values()) {
    if (!state.mailboxes.has(device.mailbox)) strangers.push(device);
    else if (of.has(device.mailbox)) of.get(device.mailbox).push(device);
    else of.set(device.mailbox, [device]);
  }
  let [agree, all] = [0, 0];
  for (const box of state.mailboxes.values()) {
    const devices = of.get(box.name) ?? [];
    const live = devices.filter((device) => !device.isGone);
    all += live.length;
    agree += live.filter((device) => view.isTrue(device, box.unseen)).length;
    drawMailbox(box, devices);
  }
  $('agreement').textContent = all ? (agree === all ? `every badge is true (${all})` : `${agree} of ${all} badges are true`) : '';
  $('agreement').className = all && agree === all ? 'true' : '';
  $('strangers').replaceChildren(...strangers.map((device) => view.phone(device, undefined, setGone)));
  $('strangers-part').hidden = strangers.length === 0;
}

function drawMailbox(box, devices) {
  const looks = JSON.stringify([box.unseen, box.messages, devices.map((d) => [d.deviceId, d.badge, d.isGone])]);
  const before = drawn.get(box.name);
  if (before?.looks !== looks) {
    const made = view.mailbox(box, devices, act, setGone);
    // A keyboard stays on the button that it pressed.
    const focused = before?.made.contains(document.activeElement) && document.activeElement.dataset.action;
    if (before) before.made.replaceWith(made);
    else $('mailboxes').append(made);
    if (focused) made.querySelector(`[data-action="${focused}"]:enabled`)?.focus();
    drawn.set(box.name, { looks, made });
    for (const device of devices) device.isFresh = false;
  }
  drawn.get(box.name).made.hidden = !box.name.toLowerCase().includes(state.filter);
}

// ---- what clicks ask

async function ask(method, path, body) {
  try {
    const response = await fetch(path, { method, body: body && JSON.stringify(body) });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    $('problem').hidden = true;
    return answer;
  } catch (error) {
    $('problem').textContent = error.message;
    $('problem').hidden = false;
    return undefined;
  }
}

const act = (name, action) => ask('POST', `/control/mailboxes/${encodeURIComponent(name)}/${action}`);
const setQuirk = (quirk, isOn) => ask('POST', '/control/quirks', { quirk, on: isOn });
const setGone = ({ appId, deviceId, isGone }) => ask('POST', '/control/devices', { appId, deviceId, isGone: !isGone });
const shown = () => [...state.mailboxes.values()].filter((box) => box.name.toLowerCase().includes(state.filter));

$('deliver-all').addEventListener('click', () => shown().forEach((box) => act(box.name, 'deliver')));
$('read-all').addEventListener('click', () => shown().forEach((box) => act(box.name, 'all-seen')));
$('relay-switch').addEventListener('click', () => ask('POST', `/control/relay/${state.isUp ? 'stop' : 'start'}`));
$('token-service-switch').addEventListener('click', () => ask('POST', `/control/token-service/${state.isTokenServiceUp ? 'stop' : 'start'}`));
$('rotate').addEventListener('click', () => ask('POST', '/control/token-service/rotate', { step: state.hasNextKey ? 'use' : 'publish' }));
$('forget').addEventListener('click', () => ask('POST', '/control/token-service/rotate', { step: 'forget' }));
$('filter').addEventListener('input', (event) => { state.filter = event.target.value.toLowerCase(); draw(); });

const form = $('fault-form');
function offerKinds() {
  const kinds = Object.keys(KINDS).filter((kind) => form.peer.value === 'relay' || !RELAYS_OWN.includes(kind));
  const chosen = form.kind.value;
  form.kind.replaceChildren(...kinds.map((kind) => view.element('option', { value: kind }, kind)));
  if (kinds.includes(chosen)) form.kind.value = chosen;
  showParameter();
}
form.peer.addEventListener('change', offerKinds);
function showParameter() {
  const parameter = KINDS[form.kind.value];
  $('parameter-label').hidden = !parameter;
  if (parameter) [$('parameter-label').firstChild.textContent, form.parameter.value] = [parameter[1], parameter[2]];
}
form.kind.addEventListener('change', showParameter);
form.addEventListener('submit', (event) => {
  event.preventDefault();
  const [name, , first] = KINDS[form.kind.value] ?? [];
  const order = { peer: form.peer.value, kind: form.kind.value, rate: Number(form.rate.value), durationMs: form.duration.value ? Number(form.duration.value) : null };
  if (name) order[name] = typeof first === 'number' ? Number(form.parameter.value) : form.parameter.value;
  ask('POST', '/control/faults', order);
});

$('quirk-form').addEventListener('submit', (event) => {
  event.preventDefault();
  setQuirk(event.target.quirk.value, true);
});

async function offerQuirks() {
  const { known } = await ask('GET', '/control/quirks') ?? { known: [] };
  $('quirk-form').quirk.append(...known.map((name) => view.element('option', { value: name }, name)));
  $('quirks-part').hidden = known.length === 0;
}

// ---- begin

function listen() {
  const events = new EventSource('/control/events');
  for (const [name, take] of Object.entries(HEARD)) events.addEventListener(name, (event) => take(JSON.parse(event.data)));
  events.addEventListener('error', () => {
    $('relay').textContent = 'the simulator does not answer';
    $('relay').className = 'pill down';
  });
}

async function begin() {
  offerKinds();
  const first = await ask('GET', '/control/state');
  if (!first) return;
  for (const box of first.mailboxes) state.mailboxes.set(box.name, box);
  takeDevices(first.devices);
  takeRelay({ ...first, isUp: first.relay.isUp });
  takeBatches(first.batches);
  const more = first.mailboxCount - first.mailboxes.length;
  $('more').hidden = more <= 0;
  $('more').textContent = `and ${more} more mailboxes that are not shown`;
  for (const id of ['deliver-all', 'read-all', 'filter']) $(id).hidden = !first.hasMailStore;
  if (first.hasMailStore) offerQuirks();
  else $('mailboxes-title').textContent = 'Phones';
  draw();
  listen();
}

begin();
