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

function written(token) {
  const dated = Object.fromEntries(Object.entries(token.claims ?? {}).map(([name, value]) => (
    ['nbf', 'exp', 'iat'].includes(name) ? [name, `${value} = ${new Date(Number(value) * 1000).toISOString()}`] : [name, value]
  )));
  return `token ${token.number}, used ${token.uses} times\n${JSON.stringify(token.header)}\n${JSON.stringify(dated, null, 1)}`;
}

const clock = (time) => time.toLocaleTimeString(undefined, { hour12: false });

export function fault(fault, onRemove) {
  const { id, kind, rate, untilMs, hits, durationMs, count, ...parameters } = fault;
  const words = [kind, ...Object.entries(parameters).map(([name, value]) => `${name} ${value}`)];
  if (rate < 1) words.push(`${Math.round(rate * 100)} %`);
  if (untilMs) words.push(`until ${clock(new Date(untilMs))}`);
  const button = element('button', { type: 'button', 'aria-label': `Switch off ${kind}` }, 'Switch off');
  button.addEventListener('click', () => onRemove(id));
  return element('li', {}, element('span', {}, `${words.join(' · ')} · hit ${hits}×`), button);
}

export function quirk(name, onRemove) {
  const button = element('button', { type: 'button', 'aria-label': `Switch off ${name}` }, 'Switch off');
  button.addEventListener('click', () => onRemove(name));
  return element('li', {}, element('span', {}, name), button);
}

export function tenant(tenant) {
  const named = ({ realm }) => (tenant.acceptedDomains.includes(realm) ? '' : `${realm}: `);
  const issuers = [...tenant.partnerApplications, ...tenant.tokenServices].flatMap((issuer) => (
    issuer.credentials.length
      ? issuer.credentials.map((c) => element('div', {}, named(issuer), element('code', {}, c.thumbprint)))
      : [element('div', { className: 'note' }, named(issuer), 'no certificate trusted yet')]
  ));
  return element('div', {}, element('strong', {}, tenant.acceptedDomains.join(', ') || tenant.id), ...issuers);
}

export function figure(name, value) {
  return element('div', {}, element('dt', {}, name), element('dd', {}, value.toLocaleString()));
}
