"""What a report's text says about itself: whether it reports anything, and in which language."""

import html
import re
import unicodedata
from collections import Counter
from functools import lru_cache

_LETTER = re.compile(r"[^\W\d_]")

# A run of letters, bounded as no word is longer. PTB-XL spells some umlauts "#" ("f#r", "#bergang").
_WORD = re.compile(r"#?[^\W\d_]{1,60}(?:#[^\W\d_]{1,60})?")

# What PTB-XL's editors wrote behind some reports: SCP codes of their own, which report nothing to a reader.
_EDITORS_NOTE = r"(?:edit|consensus label derived from)\s*:.*"
_LABEL_NOTE = re.compile(rf"\s*\b{_EDITORS_NOTE}", re.IGNORECASE | re.DOTALL)
_TRACE_ONLY = re.compile(
    rf"""
    [\W\d_]* (?: trace\ only\ requested\b.*
        | (?: (?:trace|tracing|recording)\ only
            | (?:ecg|ekg)
            | no\ (?:report|interpretation|finding)s? (?:\ (?:available|requested))?
            | (?:un|in)confirmed(?:\ report)? | unbest(?:ä|ae|\#)tigte[rs]?(?:\ (?:bericht|befund))?
            | (?:kein|ohne)\ (?:bericht|befundung|auswertung) | kein\ befund | nur\ (?:aufzeichnung|registrierung)
            | obekräfta[dt](?:\ utlåtande)? | (?:inget|utan)\ (?:utlåtande|svar) | (?:ej|inte)\ (?:tolkat|bedömt)
            | endast\ registrering
          ) \W* (?:{_EDITORS_NOTE})?
    ) """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)

# Words that tell a language in ECG reports. Left out is what English ones may hold as well: Latin ("sinus",
# "p-mitrale", "bigeminus"), abbreviations of any language ("llt", "lsb", "ves", "path", "im", "des", "ej", "av")
# and words that are English too ("die", "alter", "also", "falls", "stark", "under", "den", "sedan").
_WORDS = {
    "en": """
        rhythm rhythms left right axis wave waves is are be with and or of to the this due possible possibly
        probably probable cannot not no which there may consider excluded otherwise infarction infarct fibrillation
        flutter bradycardia tachycardia arrhythmia premature hypertrophy low high old branch bundle confirmed
        unconfirmed ecg damage conduction disturbance deviation enlargement nonspecific borderline changes early
        recent tracing beat beats rate pacing paced type position age undetermined suspected flat flattening
        prolonged limits delay
    """,
    "de": """
        aber alt auch auf aus bei beim das dem der durch ein eine einem einen einer eines etwas fuer f#r für ist
        jetzt kaum kein keine keinen keiner mit nach nicht noch nur oder ohne sehr seit seither sind sonst teilweise
        ueber über und unter vom vor wegen wie wird zum zur zt bzw links rechts linke linken linker rechte rechten
        rechter abgang achse allgemein angehobene amplitudenkriterien befund bericht brustwand deutlich deutliche
        diskrete erkannt erneut fehlt fehlend fehlende fehlendes flach flache flaches fraglich fragl frisch frische
        frischer frequenz gering geringe grades grenzbefund grenzwertig hebung hebungen herz hinterwand hoch hohe
        hohen hoher hohes kammer kompl konkordant konstant langsam langsamer linie mehr moeglich möglich mässige
        maessige negativ neu neue neuer normale normaler normales puls qualitaet qualität schlecht schlechte schmal
        schmale schwach schwere schweres schwierig senkung sicher spitz spitze spitzes stabil steillage steil
        stoerung störung tagen tiefe tiefes typ unbest unspez vagale verdacht vorderwand vorhof welle wellen zacke
        zacken zusätzlich zweiter bestimmbare uniforme hwi vwi
    """,
    "sv": """
        och eller inte utan från för på är såsom vid samt inget inga enligt jmf fanns finns funna bör möjligen
        möjlig trolig troligen sannolik sannolikt övervägas uteslutas vänster höger axel axeln avvikande förlopp
        förändring förändringar sänkning sänkningar höjning höjningar hög höga högt låg låga normalt rytm kammar
        förmak fladder skänkel belastning patologiskt ospecifik ospecifikt onormal onormalt förlängd förlängt
        extraslag amplitudkrit amplitudkriterier arytmi ischemi iskemi litet gammal gammalt färsk flacka regelbunden
        oregelbunden utbredda inkomplett nytillkommit eljest amplituder interpolerade
    """,
    "de sv": "ekg infarkt infarkter partiell syndrom",
}

# Word forms that tell one, for the compounds and endings that no list holds; the first that fits decides.
_FORMS = [
    ("sv", r".*å.*|(?:kammar|förmaks|skänkel|hjärt|vänster).+|.{3,}(?:teral|erior|ifik|ogisk|ulär)t"),
    ("sv", r".*(?:rytm|arytmi|flimmer|fladder|kardi|ardiell|trofi|skada|systoli|affektion|ningar|ningarna|ledning)"),
    ("de", r".*(?:[üß]|schenkel|vorhof|flimmern|flattern|schrittmacher|infarkt|ausgeschl|auszuschl|ventrikul).*"),
    ("de", r"(?:links|rechts|kammer|ueber|#ber|verschob|verdreh|verz[oö]|ausfall|amplituden|peripher(?!al|y|ies)).*"),
    ("de", r".*(?:rhythmus|rhythmie|kardie|cardie|trophie|geminie|[iyo]karde?|[iyo]karde[rsnm])"),
    ("de", r".{3,}(?:typ|schaden|achse|linie|kurve|wellen?|zacken?|wand|ausfall|zittern|spiegel|hebung|senkung)"),
    ("de", r".{3,}(?:ierend|ierende[rsnm]?|ierte[rsnm]?)"),
    ("de", r".{3,}(?:ungen|keit|heit|isch|ische[rsnm]?|liche?|liche[rsnm])|.{4,}ung|.{5,}ige[rsnm]"),
    ("de", r".*(?:erior|teral|ptal|pikal|abnorm|abnormal|ifisch|ständig|staendig|akut)e[rsnm]?"),
    ("de sv", r".*[äö].*"),
    ("en", r"(?:contraction|complex|ischemi|ischaemi|elevat|depress|invert|voltage|lead|pacemaker|segment).*"),
    ("en", r".{3,}(?:ular|ically|ities|ed|ing|ity|ly|ous|ness|ance)"),
]

_LANGUAGE_OF_WORD = {word: language for language, words in _WORDS.items() for word in words.split()}
_LANGUAGE_OF_FORM = [(language, re.compile(form)) for language, form in _FORMS]


def without_label_notes(text: str) -> str:
    """A report without what PTB-XL's editors wrote behind it: "Edit: NORM 100, (NORM 100)", "Consensus label ...".

    These are labels, at times with a remark in words, by which the editors corrected the SCP statements and not the
    report; a model that is trained on them learns to print labels. HTML entities (`&amp;`) become what they stand for.
    """
    text = html.unescape(text)
    return (_LABEL_NOTE.sub("", text) if ":" in text else text).strip()


def has_label_note(text: str) -> bool:
    """True if `without_label_notes` has something to cut off."""
    return ":" in text and _LABEL_NOTE.search(text) is not None


def is_empty_report(text: str) -> bool:
    """True if the text holds no letter: there is nothing that anyone reported."""
    return _LETTER.search(text) is None


def is_trace_only(text: str) -> bool:
    """True for "trace only requested": the recording was ordered without a report, or the text is a form's heading.

    So are "ECG", "unconfirmed report", "kein Befund" and the like where nothing else is said. What may follow in
    PTB-XL is an editor's note of SCP codes and no report either. "o. B." and "pacemaker ECG" do report something.
    """
    return _TRACE_ONLY.fullmatch(text) is not None


def report_language(text: str) -> str | None:
    """The language of an ECG report: "en", "de" or "sv"; None where the text does not tell.

    A vote of the words that are typical for ECG reports in each language; a tie is not decided. A half-translated
    report is taken for the language of its larger part: `foreign_words` finds what is left of the other.
    """
    votes = Counter(map(_language, _words(text)))
    shared = votes["de sv"]
    ranking = sorted([(votes["en"], "en"), (votes["de"] + shared, "de"), (votes["sv"] + shared, "sv")])
    (second, _), (best, language) = ranking[1:]
    return language if best > second else None


def foreign_words(text: str) -> list[str]:
    """The German and Swedish words of a report, in lower case and in the order of the text.

    Empty for an English report that was wholly translated, as far as words that the three languages share let one
    tell: abbreviations ("llt", "lsb") and mistranslations ("leg block") are not found. A lone "EKG" is American
    English and does not count.
    """
    words = [word for word in _words(text) if _language(word) not in ("", "en")]
    return [] if set(words) <= {"ekg"} else words


def _words(text: str) -> list[str]:
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)  # an umlaut may come as a letter and its dots
    return _WORD.findall(text.lower())


# The corpora repeat a few thousand words; whatever else comes, the cache stays at some megabytes.
@lru_cache(maxsize=16384)
def _language(word: str) -> str:
    """ "en", "de", "sv" or "de sv"; "" where the word does not tell."""
    if (language := _LANGUAGE_OF_WORD.get(word)) is not None:
        return language
    return next((language for language, form in _LANGUAGE_OF_FORM if form.fullmatch(word)), "")
