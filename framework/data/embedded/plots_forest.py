"""Plans whose protagonists live in the forest."""

from framework.data.embedded.grammar import plot
from framework.data.embedded.vocabulary import BLANKETS, FOREST_ANIMALS, FOREST_FOODS, PARENTS, WILD_PLACES

WAY_HOME = plot(
    "way home",
    when="sun",
    heroes=FOREST_ANIMALS,
    friends=("owl", "squirrel", "turtle", "deer"),
    grown_ups=PARENTS,
    trait="""
{hero.He} lived in the forest with {hero.his} {adult}. [{hero.He} liked to look at everything.|{hero.He} was
    never afraid.]
{hero.He} lived in a [little|warm] home under a big tree. {hero.He} loved to [explore|play outside].
""",
    scene="""
{who} saw a [yellow|blue|pretty] butterfly in the forest. {hero.He} wanted to [catch it|play with it], so
    {hero.he} ran after it.
{who} wanted to see what was on the other side of the forest. {hero.He} walked and walked.
{who} was picking flowers in the forest for {hero.his} {adult}. {hero.He} went from flower to flower.
""",
    problem="""
{hero.He} went [far, far away|very far]. When {hero.he} stopped, {hero.he} did not know where {hero.he} was.
Soon the trees looked [big and dark|all the same]. {hero} [was lost|could not find the way back].

"[Where is my home|How do I get home]?" {hero} [cried|asked]. [Nobody answered.|{hero.He} was afraid.]
"I miss my {adult}," said {hero}, and {hero.he} [started to cry|sat down on a log].
""",
    attempt="""
Just then, {friend.kind_a} came by. {friend.His} name was {friend}. "[Why are you crying|What is wrong],
    little {hero.kind}?" {friend.he} asked.
Then {hero} met {friend.kind_a} named {friend}. "[Are you lost|Why are you so sad], little {hero.kind}?"
    asked {friend}.

"I cannot find my way home," said {hero}. "[What does your home look like|What is near your home]?" asked
    {friend}.
{hero} told {friend} everything. "[What can you see from your home|Can you tell me about
    your home]?" asked {friend}.
""",
    solution="""
"There is [a big tree|an old tree] next to a [little pond|stream]," said {hero}. "I know that [tree|place]!"
    said {friend}.
{hero} thought hard. "There is a [little pond|stream] and a tree with red apples," {hero.he} said. "I know
    where that is!" said {friend}.

{friend} [showed {hero.him} the way|went with {hero.him}]. They went over the hill and past the [tall
    trees|flowers].
They walked together, side by side. {friend} sang a [little|happy] song, and {hero} was not afraid anymore.

Soon {hero} saw {hero.his} home. {hero.His} {adult} [ran out|was at the door] and gave {hero.him} a big hug.
"[Look, there is my home|There it is]!" shouted {hero}. {hero.His} {adult} hugged {hero.him} and did not let
    go.
""",
    ending="""
"Thank you, {friend}," said {hero}. From that day on, {hero.he} [never went too far|stayed near home].
{hero} and {friend} became good friends. {hero} never went so far alone again.
"Next time, I will tell you where I go," {hero} said to {hero.his} {adult}. That night, {hero.he} was happy
    to be in {hero.his} own bed.
""",
)

GREEDY = plot(
    "too much food",
    when="sun",
    heroes=("squirrel", "rabbit", "mouse", "hedgehog", "badger", "bear"),
    friends=("bird", "frog", "turtle", "deer"),
    food=FOREST_FOODS,
    place=WILD_PLACES,
    trait="""
{hero.He} loved to eat {food.noun}. [{hero.He} always wanted more.|{hero.He} did not like to share.]
{hero.He} liked {food.noun} more than anything. {hero.He} wanted to have them all.
""",
    scene="""
{who} found a lot of {food} {place.at}. "[Yum|Wow]! They are all for me!" {hero.he} said.
{who} wanted to find {food} to eat. {hero.He} looked {place.at}, and {hero.he} found a big pile of them.
""",
    problem="""
{hero.His} {friend.intro} came by. "I am so hungry," said {friend}. "Can I have some {food.noun}, please?"
Then {hero.his} {friend.intro} came along. {friend} looked [thin and tired|very hungry]. "May I have a few
    {food.noun}?" {friend.he} asked.

"No," said {hero}. "[I found them|They are mine]!" {friend} went away [with a sad face|slowly].
"No! I want to eat them all," said {hero}. {friend} [was sad and went away|looked down and walked away].
""",
    attempt="""
{hero} ate and ate. Soon {hero.his} tummy [was full|was round like a ball], but {hero.he} did not stop.
{hero} ate one, and two, and ten, and more. [{hero.He} did not stop.|{hero.He} ate until {hero.he} was full.]

Then {hero.his} tummy [began to hurt|hurt a lot]. "[Ow|Oh]! I ate too much," said {hero}. {hero.He} could
    not [get up|walk].
"[Oh|Ow], my tummy hurts!" cried {hero}. {hero.He} lay down on the grass and could not [get up|move].

{friend} heard the cry and came back. {friend.He} was not angry. {friend.He} brought {hero} [some water|a
    leaf full of cool water].
Just then, {friend} came back. {friend.He} saw that {hero} was sick. {friend.He} [brought|gave] {hero.him}
    cool water to drink.
""",
    solution="""
{hero} drank the water and [felt better|soon felt fine]. "[Why are you so kind to me|Why did you help me]?"
    {hero.he} asked.
Soon {hero} felt better. "I was not nice to you, but you helped me," {hero.he} said.

{hero} felt [sorry|bad]. "Please take the rest of the {food.noun}," {hero.he} said. They [sat down and
    ate|ate] together.
"I am sorry," said {hero}. "Here, [have some {food.noun}|these {food.noun} are for you]." {friend} was so
    happy to eat.
""",
    ending="""
After that, {hero} always shared {hero.his} food with {friend}. It [was more fun|tasted better] that way.
{hero} learned that [food tastes better when you share it|it is not good to keep everything for yourself].
"It is better to share," said {hero}. And from that day on, {hero} and {friend} ate together.
""",
)

COLD_NIGHT = plot(
    "cold night",
    when="night",
    heroes=FOREST_ANIMALS,
    friends=("bird", "mouse", "squirrel", "rabbit"),
    blanket=BLANKETS,
    trait="""
{hero.He} lived in a [warm|little] house in the forest. {hero.He} had {blanket.a}.
{hero.He} had {blanket.a}, and {hero.he} slept under it every night.
""",
    scene="""
{who} was in bed under {hero.his} {blanket}. Outside, the wind was [loud|very cold].
{who} wanted to go to sleep. {hero.He} lay down under {hero.his} {blanket}. It was [cold|raining] outside.
""",
    problem="""
Knock, knock, knock! {hero} got up and opened the door. It was {hero.his} {friend.intro}, all wet and cold.
Then somebody knocked on the door. It was {hero.his} {friend.intro}. {friend.He} was [wet|shaking] from the
    cold.

"The wind blew my house away," said {friend}. "[Can I stay here?|I have no place to sleep.]"
"My home is full of [water|snow]," said {friend}. "[I do not know where to go.|May I come in, {hero}?]"
""",
    attempt="""
"Come in, come in!" said {hero}. {hero.He} gave {friend} a cup of [warm milk|hot soup].
"[Of course|Yes], you can stay with me," said {hero}. {hero.He} made some [hot soup|warm milk] for {friend}.

But {friend} was still cold, and {hero} had only one {blanket.noun}. {hero} [thought about it|did not know
    what to do].
But there was only one {blanket.noun} in the house. "If I give it to {friend}, I will be cold," {hero}
    thought.
""",
    solution="""
"This {blanket.noun} is big," said {hero}. "[We can share it|There is room for two]!" They lay down side by
    side.
"[Come here|Sit close to me]," said {hero}. {hero.He} put the {blanket} around them both.

Soon they were both warm. It was [warmer|even warmer] with two! [They told stories until they fell
    asleep.|They did not hear the wind anymore.]
They [told funny stories|sang a soft song]. Soon {friend} was warm, and {hero} was warm too.
""",
    ending="""
"Thank you, {hero}," said {friend}. "[You are a true friend|You have a kind heart]." {hero} smiled.
{hero} was happy. {hero.He} learned that sharing can make [two friends warm|everyone warm].
After that, {hero} and {friend} visited each other [every day|when it was cold], and they were never lonely.
""",
)

STUCK_IN_LOG = plot(
    "stuck in a log",
    when="sun",
    heroes=("bear", "rabbit", "fox", "badger", "hedgehog"),
    friends=("mouse", "squirrel", "turtle"),
    place=WILD_PLACES[:2],
    food=FOREST_FOODS,
    trait="""
{hero.He} was always hungry. {hero.He} liked {food} best of all.
{hero.He} loved to play [hide and seek|games] with {hero.his} friends.
""",
    scene="""
{who} was playing hide and seek with {hero.his} {friend.intro} {place.at}. {hero} [saw|found] an old log
    with a hole in it.
{who} wanted to find a good place to hide from {hero.his} {friend.intro}. They were playing {place.at}, and
    {hero.he} saw an old log.
""",
    problem="""
"[This is a good place to hide|Nobody will find me here]," said {hero}. {hero.He} went in, but then
    {hero.he} could not get out!
{hero} went into the log. It was [dark and small|very small] inside. {hero.He} tried to turn around, but
    {hero.he} was stuck!

{friend} looked and looked. "Where are you, {hero}?" {friend.he} called. "Help! I am stuck in the log!"
    cried {hero}.
"Help! Help!" cried {hero}. {friend} heard {hero.him} and came [running|as fast as {friend.he} could].
""",
    attempt="""
{friend} took {hero.his} foot and pulled. {hero} did not move. {friend} pulled [harder|again]. {hero} still
    did not move.
{friend} pushed from one side. {hero} did not move. Then {friend} pulled from the other side. [It did not
    work.|It was no good.]
""",
    solution="""
Then {friend} had an idea. {friend.He} [found a long feather|picked a long piece of grass] and tickled
    {hero.his} foot.
{friend} thought hard. Then {friend.he} took a [soft feather|long leaf] and tickled {hero.his} feet.

{hero} laughed and laughed. {hero.He} [shook|moved] so much that the log began to roll. [Pop|Crack]!
    {hero.He} was out!
"Ha, ha, ha! Stop!" laughed {hero}. {hero.He} laughed so hard that the old log broke. [Crack|Snap]! {hero}
    was free!
""",
    ending="""
"Thank you, {friend}," said {hero}. "Next time, I will [hide behind a tree|find a bigger place to hide]."
    They both laughed.
{hero} gave {friend} a hug and some {food}. It was good to have a smart friend.
{hero} learned to look before going into [small|dark] places. Then {hero} and {friend} [played again|went
    home together].
""",
)

PLOTS = (WAY_HOME, GREEDY, COLD_NIGHT, STUCK_IN_LOG)
