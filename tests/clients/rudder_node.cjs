// @rudderstack/rudder-sdk-node: node rudder_node.cjs MODULES HOST KEY CALLS PAUSE_S
const [modules, host, writeKey, calls, pause] = process.argv.slice(2);
const found = require(require.resolve("@rudderstack/rudder-sdk-node", { paths: [modules] }));
const Analytics = found.default || found;
const client = new Analytics(writeKey, { dataPlaneUrl: host, flushAt: 10, flushInterval: 50, gzip: false,
  axiosRetryConfig: { retries: 60, retryDelay: () => 200, retryCondition: () => true } });
let failed = 0;
let answered = 0;
const told = (error) => { answered += 1; if (error) failed += 1; };
(async () => {
  for (let n = 0; n < Number(calls); n += 1) {
    client.track({ userId: `u-${n % 7}`, event: n % 5 ? "Clicked" : "Order Completed", properties: { n, order_id: `o-${n}` } }, told);
    await new Promise((go) => setTimeout(go, Number(pause) * 1000));
  }
  client.identify({ userId: "u-1", traits: { email: "ann@example.com", plan: "gold" } }, told);
  client.page({ userId: "u-1", name: "Home", properties: { url: "https://example.com/docs?x=1" } }, told);
  client.screen({ userId: "u-1", name: "Cart" }, told);
  client.group({ userId: "u-1", groupId: "g-9", traits: { name: "Acme" } }, told);
  client.alias({ userId: "u-1", previousId: "anon-1" }, told);
  while (answered < Number(calls) + 5) { // flush() takes one batch, and may answer before another one is delivered
    await client.flush();
    await new Promise((go) => setTimeout(go, 20));
  }
  console.log(`made ${Number(calls) + 5} given_up ${failed}`);
  process.exit(failed ? 1 : 0);
})();
