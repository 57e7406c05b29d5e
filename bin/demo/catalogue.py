"""What the retailer is made of: countries with their names and streets, products, shops, people who work there."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

Event = dict[str, Any]
Data = dict[str, Any]

DAYS = 548  # eighteen months
SHOP = "https://www.harbourvale.example"
CONTROLLER = "Harbour & Vale Ltd"
NEWS, OFFERS, PROFILING = "marketing.news", "marketing.offers", "analytics.profiling"


def _words(text: str) -> list[str]:
    return text.split()


def _phrases(text: str) -> list[str]:
    return text.split(" / ")


class Country(msgspec.Struct, frozen=True):
    code: str
    language: str
    currency: str
    weight: int
    first: list[str]
    last: list[str]
    cities: list[str]
    streets: list[str]
    postcode: str  # `#` is a digit
    landline: str
    mobile: str


COUNTRIES = [
    Country(
        "GB",
        "en",
        "GBP",
        46,
        _words(
            """Olivia Amelia Isla Ava Freya Grace Florence Elsie Poppy Harriet Nadia Priya Aisha Chloe Megan Beth
            George Arthur Oscar Henry Leo Archie Theo Freddie Alfie Tariq Imran Callum Rhys Angus Owen Dylan"""
        ),
        _words(
            """Smith Jones Taylor Brown Williams Wilson Davies Evans Thomas Johnson Roberts Walker Wright Robinson
            Thompson White Hughes Edwards Green Hall Wood Harris Clarke Patel Khan Campbell Stewart Murray Okafor
            Begum Singh Ahmed Barnes Ellis Marsh Whitfield"""
        ),
        _words(
            "London Manchester Leeds Bristol Glasgow Cardiff Norwich York Exeter Sheffield Belfast Brighton"
        ),
        _phrases(
            "Station Road / Church Lane / Mill Street / Victoria Avenue / Park Crescent / Queens Road / Orchard Close / Harbour View"
        ),
        "LS## 4QD",
        "+44161496####",
        "+44770090####",
    ),
    Country(
        "DE",
        "de",
        "EUR",
        22,
        _words(
            """Emma Mia Hannah Lena Marie Clara Johanna Greta Frieda Anneliese Katharina Aylin Jana Sabine Ben Paul
            Leon Finn Jonas Lukas Felix Moritz Anton Karl Matthias Jürgen Emre Tobias"""
        ),
        _words(
            """Müller Schmidt Schneider Fischer Weber Meyer Wagner Becker Schulz Hoffmann Koch Bauer Richter Klein
            Wolf Schröder Neumann Braun Zimmermann Krüger Hartmann Lange Vogel Yılmaz Kowalski Brandt Jäger"""
        ),
        _words("Berlin Hamburg München Köln Leipzig Bremen Freiburg Nürnberg Dresden Kassel"),
        _phrases(
            "Lindenstraße / Gartenweg / Bahnhofstraße / Am Markt / Schillerstraße / Bergstraße / Kastanienallee"
        ),
        "1####",
        "+49302312####",
        "+491760406####",
    ),
    Country(
        "FR",
        "fr",
        "EUR",
        18,
        _words(
            """Louise Alice Chloé Camille Manon Inès Juliette Léa Zoé Margaux Élodie Fatima Gabriel Raphaël Louis
            Jules Adam Hugo Arthur Étienne Mathis Baptiste Yanis Olivier"""
        ),
        _words(
            """Martin Bernard Dubois Robert Richard Petit Durand Leroy Moreau Laurent Lefèvre Michel Garcia David
            Bertrand Roux Vincent Fournier Girard Bonnet Lambert Fontaine Benali Mercier"""
        ),
        _words("Paris Lyon Nantes Bordeaux Lille Toulouse Rennes Dijon Annecy"),
        _phrases(
            "rue des Lilas / avenue de la Gare / rue Victor-Hugo / place du Marché / chemin des Vignes / boulevard Voltaire"
        ),
        "690##",
        "+331990#####",
        "+3363998####",
    ),
    Country(
        "ES",
        "es",
        "EUR",
        14,
        _words(
            """Lucía Sofía Martina María Paula Julia Valeria Carmen Marta Nuria Hugo Mateo Martín Lucas Daniel
            Alejandro Pablo Manuel Álvaro Adrián Javier Iker"""
        ),
        _words(
            """García Rodríguez González Fernández López Martínez Sánchez Pérez Gómez Ruiz Hernández Díaz Moreno
            Muñoz Álvarez Romero Navarro Torres Domínguez Ibáñez Etxeberria"""
        ),
        _words("Madrid Barcelona Valencia Sevilla Bilbao Zaragoza Málaga Granada"),
        _phrases(
            "calle Mayor / calle del Olmo / avenida de la Constitución / plaza Nueva / paseo del Prado / calle de Alcalá"
        ),
        "280##",
        "+3491000####",
        "+3460000####",
    ),
]


class Product(NamedTuple):
    sku: str
    name: str
    category: str
    price_minor: int  # pence or cents


PRODUCTS = [
    Product("KT-1104", "Enamel kettle, sage", "kitchen", 4500),
    Product("KT-1210", "Cast-iron casserole 24 cm", "kitchen", 11900),
    Product("KT-1233", "Chef's knife 20 cm", "kitchen", 6450),
    Product("KT-1301", "Oak chopping board", "kitchen", 3200),
    Product("KT-1417", "Set of four stoneware bowls", "kitchen", 3800),
    Product("KT-1450", "Linen tea towels, pack of three", "kitchen", 1950),
    Product("KT-1502", "Espresso maker, 6 cups", "kitchen", 3600),
    Product("KT-1620", "Hand coffee grinder", "kitchen", 5250),
    Product("LV-2105", "Wool throw, heather", "living", 8900),
    Product("LV-2140", "Reading lamp, brass", "living", 12500),
    Product("LV-2208", "Velvet cushion 50 x 50", "living", 3400),
    Product("LV-2311", "Jute rug 160 x 230", "living", 17900),
    Product("LV-2402", "Beeswax candles, pair", "living", 1400),
    Product("LV-2455", "Three-seat sofa Alder", "furniture", 149900),
    Product("FN-3102", "Dining table Hawthorn, oak", "furniture", 89900),
    Product("FN-3120", "Spindle chair", "furniture", 18900),
    Product("FN-3207", "Bookcase Rowan", "furniture", 42900),
    Product("BD-4101", "Washed linen duvet set", "bedroom", 13900),
    Product("BD-4133", "Feather pillow", "bedroom", 4900),
    Product("BD-4210", "Brushed cotton pyjamas", "bedroom", 5900),
    Product("BA-5102", "Waffle bath towel", "bathroom", 2400),
    Product("BA-5140", "Cedar bath mat", "bathroom", 4400),
    Product("GD-6101", "Copper watering can", "garden", 3900),
    Product("GD-6120", "Terracotta planter, large", "garden", 5400),
    Product("GD-6205", "Folding garden chair", "garden", 7900),
    Product("GD-6301", "Secateurs", "garden", 2850),
    Product("GF-7101", "Gift card", "gifts", 5000),
    Product("GF-7140", "Hamper The Pantry", "gifts", 6900),
]
SMALL_PRODUCTS = [product for product in PRODUCTS if product.category != "furniture"]
STORES = {
    "GB": ["Manchester King Street", "Leeds Victoria", "London Marylebone", "Bristol Harbourside"],
    "DE": ["Berlin Mitte", "Hamburg Altona"],
    "FR": ["Lyon Presqu'île", "Nantes Centre"],
    "ES": ["Madrid Salesas", "Barcelona Born"],
}
AGENTS = [
    "Maya Lindqvist",
    "Daniel Achterberg",
    "Ruth Adeyemi",
    "Tom Castell",
    "Hélène Marchetti",
    "Piotr Zielony",
]
SELLERS = ["Imogen Sharpe", "Karsten Vogt", "Claire Aubert"]
TECHNICIANS = ["Gareth Pugh", "Sven Brückner", "Nadège Collet", "Jordi Ferrer"]
CARRIERS = ["Northway Parcel", "Rapide Colis", "Blue Van"]
PLACES = ["front door", "neighbour", "locker", "in person"]
ROOMS = ["lobby", "dining room", "twelve bedrooms", "terrace"]
EVENINGS = ["Members' evening", "Knife-sharpening workshop", "Wreath making"]
COMPANIES = _words(
    """Millrace Bluebell Foxglove Anchor Lantern Juniper Saltmarsh Copperleaf Brightwater Thornbury Oakridge
    Fairhaven Kingfisher Ravensworth Heathcote Alderney Larkspur Pemberton Seafield Wren"""
)
