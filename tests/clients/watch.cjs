// Watch an address with the npm package `eventsource` until it stops by itself; write what was seen, a line each.
const { EventSource } = require("eventsource");

const [url, ...types] = process.argv.slice(2);
const source = new EventSource(url);
for (const type of types) {
  source.addEventListener(type, (event) => console.log(JSON.stringify([event.lastEventId, type, JSON.parse(event.data)])));
}
source.addEventListener("error", (event) => {
  if (source.readyState === EventSource.CLOSED) console.log(JSON.stringify(["closed", event.code ?? null]));
});
