// @segment/analytics-node: node segment_node.cjs MODULES HOST KEY CALLS PAUSE_S
const [modules, host, writeKey, calls, pause] = process.argv.slice(2);
const { Analytics } = require(require.resolve("@segment/analytics-node", { paths: [modules] }));
const client = new Analytics({ writeKey, host, flushAt: 10, flushInterval: 50, maxRetries: 60, httpRequestTimeout: 5000 });
let failed = 0;
client.on("error", () => { failed += 1; });
(async () => {
  for (let n = 0; n < Number(calls); n += 1) {
    client.track({ userId: `u-${n % 7}`, event: n % 5 ? "Clicked" : "Order Completed", properties: { n, order_id: `o-${n}` } });
    await new Promise((go) => setTimeout(go, Number(pause) * 1000));
  }
  client.identify({ userId: "u-1", traits: { email: "ann@example.com", plan: "gold" } });
  client.page({ userId: "u-1", name: "Home", properties: { url: "https://example.com/docs?x=1" } });
  client.screen({ userId: "u-1", name: "Cart" });
  client.group({ userId: "u-1", groupId: "g-9", traits: { name: "Acme" } });
  client.alias({ userId: "u-1", previousId: "anon-1" });
  await client.closeAndFlush({ timeout: 180000 });
  console.log(`made ${Number(calls) + 5} given_up ${failed}`);
  process.exit(failed ? 1 : 0);
})();
