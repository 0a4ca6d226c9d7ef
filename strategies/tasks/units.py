r"""Units, which are decoration after any expression, and magnitudes, which count.

`12\pi \text{ cm}^2` is $12\pi$, `5 million` is 5000000. A word that is in no table here is no unit:
`20 June`, `2 thirds` and `5 loss` are not 20, 2 and 5.
"""

from __future__ import annotations

import re

_MEASURES = """
    metre metres meter meters metro metros mètre mètres kilometre kilometres kilometer kilometers
    kilómetros kilomètres centimetre centimetres centimeter centimeters centímetros centimètres
    millimetre millimetres millimeter millimeters decimeter decimeters mile miles milla millas
    meile meilen inch inches foot feet yard yards acre acres hectare hectares hectáreas
    litre litres liter liters litros millilitre millilitres milliliter milliliters
    gallon gallons quart quarts pint pints cup cups tablespoon tablespoons teaspoon teaspoons
    ounce ounces pound pounds ton tons tonne tonnes gram grams gramme grammes gramm gramos
    kilogram kilograms kilogramm kilogramos kilogrammes kilo kilos milligram milligrams
    second seconds sec secs segundos secondes sekunde sekunden minute minutes min mins minuto
    minutos minuten hour hours hr hrs hora horas heure heures stunde stunden day days día días
    jour jours tag tage tagen week weeks semana semanas semaine semaines woche wochen
    month months mes meses mois monat monate year years yr yrs año años an ans jahr jahre jahren
    anni ore giorni minuti secondi metri
    decade decades century centuries
    degree degrees deg grado grados degré degrés grad radian radians rad rads
    celsius fahrenheit kelvin
    mph kmh kph fps knot knots newton newtons joule joules watt watts kilowatt kilowatts volt
    volts ohm ohms amp amps ampere amperes hertz pascal pascals mole moles calorie calories
    byte bytes bit bits kilobyte kilobytes megabyte megabytes gigabyte gigabytes
    unit units
"""
_MONEY = """
    dollar dollars cent cents euro euros pound pounds pence penny pennies nickel nickels dime dimes
    buck bucks rupee rupees yen yuan peso pesos franc francs rubles
    usd eur gbp inr jpy cny rmb
"""
_PARTS = "percent percents percentage pct prozent porcentaje"
_COUNTED = """
    people person persons men women boys girls children kids adults students pupils teachers
    friends guests customers workers employees players members passengers voters
    personas personen personnes niños estudiantes
    apples oranges bananas lemons pears peaches grapes strawberries cherries mangoes fruits
    manzanas naranjas äpfel pommes
    eggs cakes pies cookies cupcakes muffins donuts brownies pizzas slices sandwiches candies
    sweets chocolates lollipops snacks meals servings bottles cans glasses jars packs packets
    packages boxes bags baskets crates cartons
    books pages words letters lines pens pencils crayons notebooks stamps stickers cards tickets
    coins marbles balls toys dolls balloons beads buttons blocks bricks tiles stones rocks
    flowers roses tulips trees plants seeds
    animals dogs cats birds chickens ducks cows horses sheep goats pigs rabbits fish frogs eggs
    spiders insects legs wheels cars trucks buses bikes bicycles boats trains trips
    shirts pants shoes socks hats dresses chairs tables rooms houses windows doors floors steps
    songs movies games videos photos pictures questions problems points pts marks times items things
    objects pieces sheets shares ways pillars flashlights nurses tattoos cans
"""
_CJK = """
    美元 欧元 元 円 ドル 块 塊 岁 歳 才 天 日間 年 个月 か月 ヶ月 周 週間
    小时 小時 時間 分钟 分鐘 分 秒 平方米 平方厘米 立方米 立方厘米 米 厘米 千米 公里 毫米
    公斤 千克 克 吨 升 毫升 度 원 살 시간
"""
_CLASSIFIERS = "个 個 只 隻 本 名 位 条 枚 冊 台 辆 棵 朵 张 匹 人 개 명"  # a noun may follow them
_SHORT = "cm mm km dm nm µm μm kg mg ml mL dl ft in lb lbs oz yd mi kW kWh MB GB Hz kHz"
_LETTERS = "m g l L h s"  # products of variables, but after a plain number or in \\text

MAGNITUDES = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
    "万": 10**4,
    "萬": 10**4,
    "亿": 10**8,
    "億": 10**8,
}
"""What a word after a number multiplies it by."""


def _any(*tables: str) -> str:
    names = {name for table in tables for name in table.split()}
    return "|".join(sorted(map(re.escape, names), key=lambda name: (-len(name), name)))


_POWER = r"(?: ?(?:\^ ?(?:\{ ?-?\d ?\}|-?\d)|[²³]))?"
_NAMES = f"{_any(_MEASURES, _MONEY, _PARTS, _COUNTED)}|per cent"
_WORD = rf"(?i:(?:(?:us|square|cubic|sq\.?|cu\.?|degrees?) )?(?:{_NAMES}))(?![^\W\d_]){_POWER}"
_SHORT_WORD = rf"(?:(?i:sq|cu)\.? ?)?(?:{_any(_SHORT)})(?![^\W\d_])\.?{_POWER}"
_LETTER = rf"(?:{_any(_LETTERS)})(?![^\W\d_]){_POWER}"
_EACH = rf"(?:{_WORD}|{_SHORT_WORD}|{_LETTER})"
_PER = rf"(?: ?(?:/|\\cdot(?![a-z])|·|(?<= )(?i:per|an?|each|every|pro|por)(?= )) ?{_EACH})*"
_TAIL = r"(?: (?i:old|each|apiece|in total|total))?"
_IDEOGRAPHS = rf"(?:{_any(_CJK)}|(?:{_any(_CLASSIFIERS)})[\u3040-\u30ff\u4e00-\u9fff]{{0,4}})"
_OF = "(?:of an? )?"
_IN_TEXT = rf"\" ?{_OF}(?:{_EACH}{_PER}{_TAIL}|{_IDEOGRAPHS}) ?\"{_POWER}"
_QUOTED = (
    rf"{_IN_TEXT}(?: ?(?:/|\\cdot) ?{_IN_TEXT})*"
    rf"|\\frac ?\{{ ?{_IN_TEXT} ?\}} ?\{{ ?{_IN_TEXT} ?\}}"
)

_NAMED = rf"{_OF}(?:{_WORD}|{_SHORT_WORD}){_PER}{_TAIL}"
UNIT = rf"{_WORD}|{_SHORT_WORD}"
"""The name of one, as a regular expression."""

_GLUED = r"(?=(?:cm|mm|km|kg|mg|m[lL]|ft|in|lb|oz|kWh|mph|kmh)(?![A-Za-z]))"
_SUFFIX = re.compile(
    rf"(?P<unit> ?(?:{_QUOTED})"
    rf"|(?:(?<=[\d)}}!\]])(?: |{_GLUED})|(?<=\\pi) ){_NAMED}"
    rf"|(?:(?<=[ \d(*+-][A-Za-z])|(?<=^[A-Za-z])) {_WORD}{_PER}{_TAIL}"
    rf"|(?<=\d) {_LETTER}{_PER}"
    rf"|(?<=\d)(?: (?i:per|an?|each|every) {_EACH}| (?i:each|apiece|in total)| ?/ ?{_WORD})"
    rf"|(?<=\d) ?{_IDEOGRAPHS})"
    r"(?= ?(?:$|[,)\]]|\\\}|(?:and|or)\b))"
)
_MANY = re.compile(rf"(?P<many>(?i:{'|'.join(MAGNITUDES)})s?)(?: (?:of )?{_NAMED}|{_IDEOGRAPHS})$")


def without_units(answer: str) -> str:
    """The answer without a unit after it, or after each item of a list, where all have the same.

    `"` stands around what was in LaTeX's `\\text`.
    """
    units = {match["unit"].strip(' ".').lower().rstrip("s") for match in _SUFFIX.finditer(answer)}
    return _SUFFIX.sub("", answer) if len(units) == 1 else _MANY.sub(r"\g<many>", answer)
