"""The web shop: visits from the first page to an order, and those that nobody knows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bin.demo.catalogue import PRODUCTS, SHOP, Data, Product
from bin.demo.clocks import ARRIVALS
from bin.demo.orders import Orders
from bin.demo.telling import Person, Teller, Visit, sum_of


class WebShop(Orders):
    """What visitors of the web shop do."""

    def _web_visit(self, person: Person, at: datetime) -> None:
        """From the first page to an order, or to where the visitor gave up."""
        visit = Visit(f"s-{self.dice.getrandbits(40):010x}", self.dice.choice(person.devices))
        product = self._browse(person, visit, at)
        at = self.soon(at, 90, 500)
        if product is None:
            return
        if person.user and self.chance(0.6):
            at = self._sign_in(person, visit, at)
        if not self.chance(0.5):
            if self.chance(0.12):
                self._chat(person, visit.device, at)
            return
        cart = self._cart(person, visit, at, product)
        at = self.soon(at, 300, 1200)
        if not self.chance(0.66):
            return
        tell = self.on("web", *self._browser(person, visit, at))
        tell("cart.updated", at, cart, session_id=visit.session, action="checkout_started")
        if self.chance(0.74):
            self._web_order(person, visit, self.soon(at, 60, 600), cart)

    def _browser(self, person: Person | None, visit: Visit, at: datetime) -> list[str]:
        """How the site names a visitor: by the account once signed in, else by the browser."""
        if person is not None and person.known_at is not None and at >= person.known_at:
            return [person.user, visit.device]
        return [visit.device]

    def _browse(self, person: Person | None, visit: Visit, at: datetime) -> Product | None:
        """A few pages; the product that was looked at, if it came to that."""
        product = self.dice.choice(PRODUCTS)
        tell = self.on("web", *self._browser(person, visit, at))
        shared: Data = {"session_id": visit.session, "host": "www.harbourvale.example"}
        shared["device"] = self.one_of("mobile mobile mobile desktop desktop tablet")
        shared["language"] = person.country.language if person else "en"
        arrival = self.dice.choices(ARRIVALS, (34, 33, 10, 12, 11))[0]
        self._page(tell, at, shared | arrival, "/", "Harbour & Vale")
        if not self.chance(0.78):
            return None
        at = self.soon(at, 5, 45)
        self._page(tell, at, shared, f"/{product.category}", product.category.capitalize())
        if self.chance(0.07):
            found = {"query": self.dice.choice(PRODUCTS).category, "results": self.dice.randint(0, 40)}
            tell("web.tracked", self.soon(at, 1, 4), shared, event="Products Searched", properties=found)
        if not self.chance(0.8):
            return None
        self._page(
            tell, self.soon(at, 5, 40), shared, f"/p/{product.sku.lower()}", product.name, sku=product.sku
        )
        return product

    def _page(self, tell: Teller, at: datetime, shared: Data, path: str, title: str, **more: Any) -> None:
        tell("web.page_viewed", at, shared, path=path, url=f"{SHOP}{path}", title=title, **more)

    def _sign_in(self, person: Person, visit: Visit, at: datetime) -> datetime:
        """The first time makes the account, and says who the browser was all along."""
        at = self.soon(at, 10, 60)
        shared: Data = {"session_id": visit.session, "method": self.one_of("password password google apple")}
        if person.known_at is not None:
            person.known_at = min(person.known_at, at)
            self.on("web", person.user, visit.device)("web.signed_in", at, shared, path="/account")
            return at
        person.known_at = at
        tell = self.on("web", person.user, person.email, visit.device)
        tell("web.registered", at, shared, name=person.name, path="/account/new")
        identifiers = {"user": person.user[5:], "email": person.emails, "phone": person.phones[0]}
        traits = {"name": person.name, "email": person.emails[0], "city": person.city}
        traits["language"] = person.country.language
        tell = self.on("web", person.user)
        tell("profile.updated", self.soon(at, 1, 5), identifiers=identifiers, traits=traits)
        return at

    def _cart(self, person: Person, visit: Visit, at: datetime, product: Product) -> Data:
        tell = self.on("web", *self._browser(person, visit, at))
        cart: Data = {
            "cart_id": self.serial("cart-", 40_001),
            "currency": person.country.currency,
            "lines": [],
        }
        for chosen in [product, *self.dice.sample(PRODUCTS, self.dice.choice((0, 0, 0, 1, 1, 2)))]:
            line = self._line(chosen)
            lines = [*cart["lines"], line]
            cart = {**cart, "lines": lines, "amount_minor": sum_of(lines)}
            action = {"action": "added", "sku": line["sku"], "quantity": line["quantity"]}
            tell("cart.updated", at, cart, action, session_id=visit.session)
            at = self.soon(at, 20, 120)
        return cart

    def _line(self, product: Product) -> Data:
        quantity = self.dice.choice((1, 1, 1, 1, 2, 2, 4)) if product.price_minor < 20_000 else 1
        named = {"sku": product.sku, "name": product.name, "category": product.category}
        return {**named, "quantity": quantity, "unit_price_minor": product.price_minor}

    def _strangers(self, number: int) -> None:
        """Visitors who never say who they are."""
        for _ in range(number):
            visit = Visit(
                f"s-{self.dice.getrandbits(40):010x}", f"anonymous:{self.dice.getrandbits(64):016x}"
            )
            self._browse(None, visit, self.day(self.start, "web"))

    def _shared_devices(self) -> None:
        """A tablet in the kitchen: two accounts sign in on one device, and stay two persons."""
        known = [p for p in self.persons if p.known_at is not None][:24]
        for one, other in zip(known[::2], known[1::2], strict=False):
            at = self.day(max(one.known_at or self.start, other.known_at or self.start), "web")
            self.on("web", other.user, one.devices[0])(
                "web.signed_in", at, method="password", device="tablet"
            )
