"""Common English words, each of which is one token in most vocabularies: what prompts are made of."""

_TEXT = """
time year people way day man thing woman life child world school state family student group country problem hand
part place case week company system program question work number night point home water room mother area money
story fact month lot right study book eye job word business issue side kind head service friend father power
hour game line end member law car city community name team minute idea body information back parent face level
office door health person art war history party result change morning reason research girl guy moment air
teacher force education foot boy age policy music market sense nation plan college interest death experience
effect use class control field development role effort rate heart drug show leader light voice wife police mind
price report decision son view town road arm difference value building action season society tax director
position player record paper space ground form event official matter center couple site project activity star
table need court oil situation cost industry figure street image phone data picture practice piece land product
doctor wall patient worker news test movie north love step baby computer type attention film tree source hair
window culture chance brother energy period summer plant opportunity term letter condition choice rule
daughter south husband floor campaign material population call economy hospital church risk fire future bank
sound west sport subject officer rest behavior performance top goal second bed order author blood agency nature
color store century evidence note size river ocean green small large open close early late high low long short
new old good best fast slow warm cold deep wide clear dark bright quiet loud clean dry soft hard strong weak
rich poor full empty fresh sweet sharp simple free safe true false near far left east read write speak listen
walk run stand sit sleep eat drink cook build draw paint sing dance play learn teach think know believe hope
dream start stop turn move carry hold give take send bring buy sell pay win lose find keep break fix cut grow
fall rise
"""

WORDS = tuple(_TEXT.split())
