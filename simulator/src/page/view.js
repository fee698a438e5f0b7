// What things look like: each function makes or renews one element. Knows nothing of the server.

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes('-')) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const ENVELOPE = 'M9 15h26v18a2 2 0 0 1-2 2H11a2 2 0 0 1-2-2z M9 15l13 11 13-11';

function icon() {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  svg.setAttribute('viewBox', '0 0 44 48');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(space, 'path');
  for (const [name, value] of [['d', ENVELOPE], ['fill', 'none'], ['stroke', '#2f6fed'], ['stroke-width', '2.6'], ['stroke-linejoin', 'round']]) {
    path.setAttribute(name, value);
  }
  svg.append(path);
  return svg;
}

const APPS = {
  'com.microsoft.exchange.iphone': ['iPhone', 'iphone'],
  'com.microsoft.exchange.ipad': ['iPad', 'ipad'],
  'com.microsoft.exchange.mowa': ['Android', 'mowa'],
};

// A phone; `unseen` is its mailbox's count, or undefined where nobody knows whose it is.
export function phone(device, unseen, onGone) {
  const [kind, style] = APPS[device.appId] ?? [device.appId, ''];
  const shown = element('span', { className: 'icon' }, icon(), device.badge ? badge(device) : null);
  const said = device.badge ? `${device.badge} unseen` : 'no badge';
  const screen = element('div', { className: 'screen' }, shown, element('span', { className: 'label' }, 'Mail'));
  const box = element('div', { className: 'case', role: 'img', 'aria-label': `${kind}: ${said}` }, screen);
  const made = element('div', { className: `phone ${style}` }, box, element('div', { className: 'name', title: device.deviceId }, kind, element('code', {}, short(device.deviceId))), state(device, unseen));
  if (device.isGone) made.classList.add('gone');
  const button = element('button', { type: 'button' }, device.isGone ? 'Bring back' : 'Lose');
  button.title = device.isGone ? 'The device takes notifications again' : 'The device answers that it is gone';
  button.addEventListener('click', () => onGone(device));
  made.append(button);
  return made;
}

function badge(device) {
  const made = element('span', { className: 'badge' }, device.badge > 9999 ? '9999+' : String(device.badge));
  if (device.isFresh) made.classList.add('changed');
  return made;
}

function state(device, unseen) {
  if (device.isGone) return element('div', { className: 'state' }, 'gone');
  if (unseen === undefined) return element('div', { className: 'state' }, `${device.received} received`);
  const agrees = isTrue(device, unseen);
  return element('div', { className: `state ${agrees ? 'agrees' : 'differs'}` }, agrees ? '✓ true' : '≠ mailbox');
}

// An icon that never got a number shows none, which is true of an empty inbox.
export const isTrue = (device, unseen) => (device.badge ?? 0) === unseen;

const short = (id) => (id.length > 8 ? `…${id.slice(-6)}` : id);

const ACTIONS = [
  ['deliver', 'Deliver', 'A new message arrives'],
  ['read', 'Read', 'The newest unseen message is read'],
  ['unread', 'Unread', 'The newest seen message is marked unread'],
  ['delete', 'Delete', 'The newest unseen message, else the last one, is deleted'],
  ['all-seen', 'All seen', 'Every message is marked seen'],
];

export function mailbox(box, devices, onAction, onGone) {
  const actions = ACTIONS.map(([action, label, title], index) => {
    const button = element('button', { type: 'button', title, 'aria-label': `${label}: ${box.name}`, className: index ? '' : 'main' }, label);
    button.disabled = (action === 'read' || action === 'all-seen') ? !box.unseen : action === 'unread' ? box.unseen === box.messages : action === 'delete' && !box.messages;
    button.dataset.action = action;
    button.addEventListener('click', () => onAction(box.name, action));
    return button;
  });
  const left = element(
    'div', {},
    element('h3', {}, box.name),
    element('p', { className: 'count' }, String(box.unseen), ' ', element('small', {}, `unseen of ${box.messages}`)),
    element('div', { className: 'actions' }, ...actions),
  );
  const phones = devices.length
    ? element('div', { className: 'phones' }, ...devices.map((device) => phone(device, box.unseen, onGone)))
    : element('p', { className: 'note none' }, 'no phone yet');
  return element('article', { className: 'mailbox', 'aria-label': box.name }, left, phones);
}

export function batch(batch, token) {
  const time = new Date(batch.atMicros / 1000);
  const word = batch.isProbe ? 'probe' : `${batch.notificationCount} ${batch.notificationCount === 1 ? 'count' : 'counts'}`;
  const parts = [`${batch.accepted} taken`, batch.rejected ? `${batch.rejected} refused` : null].filter(Boolean).join(', ');
  const summary = element('summary', {}, element('strong', {}, `#${batch.number}`), element('span', {}, `${word} · ${parts}`), element('time', { dateTime: time.toISOString() }, clock(time)));
  const details = element('details', {}, summary);
  // Most are never opened: what is inside is made when they are.
  details.addEventListener('toggle', () => {
    if (details.open && details.children.length === 1) details.append(inside(batch, token(batch.token)));
  });
  return element('li', {}, details);
}

function inside(batch, token) {
  const head = element('tr', {}, ...['Notification', 'Devices', 'Unseen'].map((text) => element('th', {}, text)));
  const rows = batch.notifications.map((n) => element(
    'tr', {},
    element('td', {}, element('code', {}, n.id ?? '(none)')),
    element('td', {}, n.recipients.map((r) => short(r.deviceId ?? '?')).join(' ')),
    element('td', {}, String(n.unseenEmailCount ?? '–')),
  ));
  const more = batch.notificationCount - rows.length;
  return element(
    'div', { className: 'inside' },
    element('table', {}, head, ...rows),
    more > 0 ? element('p', { className: 'note' }, `and ${more} more`) : null,
    element('p', { className: 'note' }, `${batch.bytes} bytes · request ${batch.requestId || '–'}`),
    token ? element('pre', { 'aria-label': 'Token, decoded' }, written(token)) : element('p', { className: 'note' }, 'its token is no longer kept'),
  );
}

const written = (token) => `token ${token.number}, used ${token.uses} times\n${decoded(token)}`;

// Header and claims, with dates that a person can read.
function decoded({ header, claims }) {
  const dated = Object.fromEntries(Object.entries(claims ?? {}).map(([name, value]) => (
    ['nbf', 'exp', 'iat'].includes(name) ? [name, `${value} = ${new Date(Number(value) * 1000).toISOString()}`] : [name, value]
  )));
  return `${JSON.stringify(header)}\n${JSON.stringify(dated, null, 1)}`;
}

const clock = (time) => time.toLocaleTimeString(undefined, { hour12: false });

export function fault(fault, onRemove) {
  const { peer, id, kind, rate, untilMs, hits, durationMs, count, ...parameters } = fault;
  const words = [kind, ...Object.entries(parameters).map(([name, value]) => `${name} ${value}`)];
  if (peer !== 'relay') words.unshift('token service');
  if (rate < 1) words.push(`${Math.round(rate * 100)} %`);
  if (untilMs) words.push(`until ${clock(new Date(untilMs))}`);
  const button = element('button', { type: 'button', 'aria-label': `Switch off ${kind}` }, 'Switch off');
  button.addEventListener('click', () => onRemove(id, peer));
  return element('li', {}, element('span', {}, `${words.join(' · ')} · hit ${hits}×`), button);
}

export function quirk(name, onRemove) {
  const button = element('button', { type: 'button', 'aria-label': `Switch off ${name}` }, 'Switch off');
  button.addEventListener('click', () => onRemove(name));
  return element('li', {}, element('span', {}, name), button);
}

const KINDS = [
  ['partnerApplications', 'Direct trust', 'The relay takes what these sign themselves'],
  ['tokenServices', 'Token services', 'The relay takes what these issue'],
  ['servicePrincipals', 'Service principals', 'The token service issues for these'],
];

// An organization: whom it trusts for what, and by which certificates.
export function tenant(tenant) {
  const parts = KINDS.flatMap(([member, label, title]) => (
    tenant[member].length ? [element('h4', { title }, label), ...tenant[member].flatMap(issuer)] : []
  ));
  return element('div', {}, element('strong', {}, tenant.acceptedDomains.join(', ') || tenant.id), ...parts);
}

function issuer({ applicationId, realm, credentials, metadataUrl, published, readAtMicros, error }) {
  const certificates = [...credentials, ...published].map((c) => (
    element('div', { title: `until ${new Date(c.endSeconds * 1000).toISOString()}` }, element('code', {}, c.thumbprint))
  ));
  const read = readAtMicros ? `read at ${clock(new Date(readAtMicros / 1000))}` : 'not read yet';
  return [
    element('div', { title: `${applicationId}@${realm}` }, nameOf(applicationId), element('code', {}, ` @${realm}`)),
    ...certificates,
    certificates.length ? null : element('div', { className: 'note' }, 'no certificate trusted yet'),
    metadataUrl ? element('div', { className: 'note', title: metadataUrl }, 'by its document, ', error ? element('span', { className: 'differs' }, error) : read) : null,
  ].filter(Boolean);
}

const NAMES = {
  '00000002-0000-0ff1-ce00-000000000000': 'Exchange',
  '00000001-0000-0000-c000-000000000000': 'Token service',
};
const nameOf = (applicationId) => NAMES[applicationId?.toLowerCase()] ?? applicationId;

export function keys({ previous, current, next }) {
  const rows = [['before', previous], ['signs', current], ['next', next]].filter(([, key]) => key);
  return rows.flatMap(([label, key]) => [element('dt', {}, label), element('dd', {}, element('code', {}, key.thumbprint))]);
}

// A token request: what was issued, or why not.
export function request(request) {
  const time = new Date(request.atMicros / 1000);
  const { refused, assertion } = request;
  const who = String(assertion?.claims?.iss ?? '').split('@')[0];
  const word = refused ? refused.error : 'issued';
  const summary = element(
    'summary', {}, element('strong', {}, `#${request.number}`),
    element('span', { className: refused ? 'differs' : 'agrees' }, word), element('span', {}, nameOf(who) || '–'),
    element('time', { dateTime: time.toISOString() }, clock(time)),
  );
  const inside = element(
    'div', { className: 'inside' },
    element('p', { className: 'note' }, refused ? `AADSTS${refused.code}: ${refused.reason}` : 'Issued, without its signature'),
    refused ? null : element('pre', { 'aria-label': 'Token, decoded' }, decoded(request)),
    assertion ? element('p', { className: 'note' }, 'For this assertion') : null,
    assertion ? element('pre', { 'aria-label': 'Assertion, decoded' }, decoded(assertion)) : null,
  );
  return element('li', {}, element('details', {}, summary, inside));
}

export function figure(name, value) {
  return element('div', {}, element('dt', {}, name), element('dd', {}, value.toLocaleString()));
}
