// npm's cloudevents: node cloudevents_node.cjs MODULES HOST KEY CALLS PAUSE_S SOURCE
// Binary and structured in turn; each is sent until it is answered as recorded: its transport has no retry of its own.
const [modules, host, key, calls, pause, source] = process.argv.slice(2);
const { CloudEvent, Mode, emitterFor, httpTransport } = require(require.resolve("cloudevents", { paths: [modules] }));
const transport = httpTransport(`${host}/v1/events`);
const emits = [emitterFor(transport), emitterFor(transport, { mode: Mode.STRUCTURED })];
const wait = (ms) => new Promise((go) => setTimeout(go, ms));
let failed = 0;
(async () => {
  for (let n = 0; n < Number(calls); n += 1) {
    const order = n % 5 === 0;
    const properties = { n };
    const event = new CloudEvent({ id: `ce-${n}`, source, type: order ? "order.placed" : "web.tracked", subject: `user:u-${n % 7}`,
      data: order ? { order_id: `o-${n}`, properties } : { event: "Clicked", properties } });
    let taken = false;
    for (let attempt = 0; attempt < 300 && !taken; attempt += 1) {
      try {
        const answer = await emits[n % 2](event, { headers: { Authorization: `Bearer ${key}` } });
        const told = JSON.parse(answer.body);
        taken = told.recorded + told.duplicates === 1;
      } catch (error) { taken = false; }
      if (!taken) await wait(200);
    }
    if (!taken) failed += 1;
    await wait(Number(pause) * 1000);
  }
  console.log(`made ${calls} given_up ${failed}`);
  process.exit(failed ? 1 : 0);
})();
