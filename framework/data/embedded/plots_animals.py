"""Plans whose protagonists are animals of the forest and the pond."""

from framework.data.embedded.grammar import plot
from framework.data.embedded.vocabulary import (
    BLANKETS,
    FOREST_ANIMALS,
    FOREST_FOODS,
    PARENTS,
    SMALL_FOREST_ANIMALS,
    WILD_PLACES,
)

WAY_HOME = plot(
    "way home",
    when="sun",
    heroes=FOREST_ANIMALS,
    friends=("owl", "squirrel", "turtle", "deer"),
    grown_ups=PARENTS,
    trait="""
{hero.He} lived in the forest with {hero.his} {adult}. [{hero.He} liked to look at everything.|{hero.He} was never afraid.]
{hero.He} lived in a [little|warm] home under a big tree. {hero.He} loved to [explore|play outside].
""",
    scene="""
{who} saw a [yellow|blue|pretty] butterfly in the forest. {hero.He} wanted to [catch it|play with it], so {hero.he} ran after it.
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
First, {hero.he} went [past a big rock|up a hill], but {hero.his} home was not there. Then {hero.he} went back.
{hero} tried one path, but it stopped at the [stream|big rocks]. {hero.He} tried another path, but it [was too dark|went up a hill].

Just then, {friend.kind_a} came by. {friend.His} name was {friend}. "[Why are you crying|What is wrong], little {hero.kind}?" {friend.he} asked.
Then {hero} met {friend.kind_a} named {friend}. "[Are you lost|Why are you so sad], little {hero.kind}?" asked {friend}.

"I cannot find my way home," said {hero}. "[What does your home look like|What is near your home]?" asked {friend}.
{hero} told {friend} everything. "[What can you see from your home?|Tell me about your home,]" said {friend}.
""",
    solution="""
"There is [a big tree|an old tree] next to a [little pond|stream]," said {hero}. "I know that [tree|place]!" said {friend}.
{hero} thought hard. "There is a [little pond|stream] and a tree with red apples," {hero.he} said. "I know where that is!" said {friend}.

{friend} [showed {hero.him} the way|went with {hero.him}]. They went over the hill and past the [tall trees|flowers].
They walked together, side by side. {friend} sang a [little|happy] song, and {hero} was not afraid anymore.

Soon {hero} saw {hero.his} home. {hero.His} {adult} [ran out|was at the door] and gave {hero.him} a big hug.
"[Look, there is my home|There it is]!" shouted {hero}. {hero.His} {adult} hugged {hero.him} and did not let go.
""",
    ending="""
"Thank you, {friend}," said {hero}. From that day on, {hero.he} [never went too far|stayed near home].
{hero} and {friend} became good friends. {hero} never went so far alone again.
"Next time, I will tell you where I go," {hero} said to {hero.his} {adult}. That night, {hero.he} was happy to be in {hero.his} own bed.
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
Then {hero.his} {friend.intro} came along. {friend} looked [thin and tired|very hungry]. "May I have a few {food.noun}?" {friend.he} asked.

"No," said {hero}. "[I found them|They are mine]!" {friend} went away [with a sad face|slowly].
"No! I want to eat them all," said {hero}. {friend} [was sad and went away|looked down and walked away].
""",
    attempt="""
{hero} ate and ate. Soon {hero.his} tummy [was full|was round like a ball], but {hero.he} did not stop.
{hero} ate one, and two, and ten, and more. [{hero.He} did not stop.|{hero.He} ate until {hero.he} was full.]

Then {hero.his} tummy [began to hurt|hurt a lot]. "[Ow|Oh]! I ate too much," said {hero}. {hero.He} could not [get up|walk].
"[Oh|Ow], my tummy hurts!" cried {hero}. {hero.He} lay down on the grass and could not [get up|move].

{friend} heard the cry and came back. {friend.He} was not angry. {friend.He} brought {hero} [some water|a leaf full of cool water].
Just then, {friend} came back. {friend.He} saw that {hero} was sick. {friend.He} [brought|gave] {hero.him} cool water to drink.
""",
    solution="""
{hero} drank the water and [felt better|soon felt fine]. "[Why are you so kind to me|Why did you help me]?" {hero.he} asked.
Soon {hero} felt better. "I was not nice to you, but you helped me," {hero.he} said.

"[Friends help each other|That is what friends do]," said {friend}.
"You are my friend," said {friend}. "[I always want to help you|I was worried about you]."

{hero} felt [sorry|bad]. "Please take the rest of the {food.noun}," {hero.he} said. They [sat down and ate|ate] together.
"I am sorry," said {hero}. "Here, [have some {food.noun}|these {food.noun} are for you]." {friend} was so happy to eat.
""",
    ending="""
After that, {hero} always shared {hero.his} food with {friend}. It [was more fun|tasted better] that way.
{hero} learned that [food tastes better when you share it|it is not good to keep everything for yourself].
"It is better to share," said {hero}. And from that day on, {hero} and {friend} ate together.
""",
)

SWIM = plot(
    "learning to swim",
    when="sun",
    heroes=("duck",),
    friends=("frog", "turtle"),
    grown_ups=PARENTS,
    trait="""
{hero.He} lived by a [big|blue|quiet] pond with {hero.his} {adult}. But {hero.he} was afraid of the water.
{hero.He} had [yellow|soft] feathers and two big feet. But {hero.he} did not know how to swim.
""",
    scene="""
{who} stood by the pond with {hero.his} {adult}. All the other ducks were swimming.
{who} wanted to swim like the other ducks. {hero.He} went to the pond with {hero.his} {adult}.
""",
    problem="""
"Come in, the water is [warm|nice]," said {hero.his} {adult}. But {hero} [shook {hero.his} head|did not move]. "[It is too deep|I am afraid]," {hero.he} said.
{hero} put one foot in the water. It was [cold|wet and cold]! {hero.He} [ran|jumped] back to the grass.

"[I will never swim|I cannot do it]," {hero.he} said. {hero.He} sat in the grass and felt [sad|very small].
The other ducks [laughed and splashed|had fun]. {hero} felt [sad and alone|left out].
""",
    attempt="""
Just then, {friend.kind_a} named {friend} looked out of the water. "[Why are you not swimming|Why do you look so sad]?" {friend.he} asked.
A little {friend.kind} named {friend} saw {hero.him}. "[What is wrong|Are you okay], little duck?" {friend.he} asked.

"I am afraid," said {hero}. "I was afraid too, [the first time|when I was little]," said {friend}. "[Start with one foot|We can go slowly]."
"The water is too deep for me," said {hero}. "[Stay close to me|I will stay with you]," said {friend}. "We can go step by step."

{hero} put in one foot, and then the other. {hero.He} took one more step. [Splash|Plop]! {hero.He} slipped!
{hero} took one step, then two, then three. The water came up to {hero.his} tummy. [Splash|Plop]! {hero.He} fell in!
""",
    solution="""
"Kick your feet!" said {friend}. {hero} kicked and kicked. {hero.He} did not go down. {hero.He} was swimming!
{hero} [kicked {hero.his} feet|moved {hero.his} big feet] as fast as {hero.he} could. "[Look|See]!" said {friend}. "You are swimming!"

"I can swim! I can swim!" {hero} [shouted|sang]. {hero.His} {adult} was very proud.
{hero.His} {adult} swam to {hero.him}. "[Well done|I am so proud of you], my little duck," {adult.he} said.
""",
    ending="""
{hero} and {friend} swam [around the pond|side by side] all day. {hero} was not afraid anymore.
{hero} learned that [trying is the best way to be brave|new things are not so scary with a friend].
From that day on, {hero} was the first one in the water [every morning|each day].
""",
)

FLY = plot(
    "learning to fly",
    when="any",
    heroes=("bird",),
    friends=("squirrel", "butterfly", "bee"),
    grown_ups=PARENTS,
    trait="""
{hero.He} lived in a nest at the top of a [tall|big] tree with {hero.his} {adult}. {hero.He} did not know how to fly.
{hero.He} had small wings. {hero.He} lived in a [warm|soft] nest with {hero.his} {adult}.
""",
    scene="""
{who} sat in {hero.his} nest and looked down. The ground was far, far away.
{who} wanted to fly [high in the sky|like the big birds]. {hero.He} stood on the side of {hero.his} nest with {hero.his} {adult}.
""",
    problem="""
"[Today is a good day to fly|It is time to fly]," said {hero.his} {adult}. "Open your wings and jump." But {hero} was too [scared|afraid].
{hero.His} {adult} [flew around the tree|showed {hero.him} how to fly]. "Now you try," {adult.he} said. But {hero} [shook {hero.his} head|held on tight].

"What if I fall?" {hero.he} asked. "[My wings are too small|It is so high]!"
"I cannot fly," said {hero}. "[The ground is too far away|I am too little]."
""",
    attempt="""
{hero} [moved|flapped] {hero.his} wings once, but then {hero.he} closed {hero.his} eyes and sat down.
{hero} tried to jump, but {hero.his} feet did not [move|let go].

A little {friend.kind} named {friend} came to the tree. "[Start small|Try a little jump first]," {friend.he} said. "[Jump to this branch|It is just one hop to this branch]."
{hero.His} {friend.intro} came by. "You do not have to go far," said {friend}. "Just come to [me|this branch]."

{hero} [took a deep breath|counted to three] and jumped. Flap, flap! {hero.He} landed on the branch.
{hero} opened {hero.his} wings and hopped. Flap, flap! {hero.He} was on the branch!
""",
    solution="""
"[See|Look]! You did it!" said {friend}. {hero} smiled. Then {hero.he} [jumped|flew] to the next branch, and the next.
"That was not so hard," said {hero}. {hero.He} tried [a longer jump|again]. Flap, flap, flap!

Then the wind came. {hero} opened {hero.his} wings [wide|as wide as {hero.he} could], and up {hero.he} went. {hero.He} was flying!
At last, {hero} let go and flew into the [blue|big blue] sky. [The wind felt good.|{hero.He} did not fall at all.]

"[Look at me|I can fly]!" {hero.he} [sang|shouted]. {hero.His} {adult} flew next to {hero.him} and was very proud.
{hero.His} {adult} clapped {adult.his} wings. "[I knew you could do it|You are a brave little bird]," {adult.he} said.
""",
    ending="""
{hero} learned that big things start with [a small jump|one small step].
After that, {hero} flew [every day|over the trees each morning], and {friend} always waved to {hero.him}.
"Thank you, {friend}," said {hero}. That night, {hero} [dreamed of the sky|slept well in {hero.his} nest].
""",
)

SMALL_HELPER = plot(
    "small helper",
    when="sun",
    heroes=SMALL_FOREST_ANIMALS[:3],
    friends=("bear", "lion", "wolf"),
    place=WILD_PLACES,
    trait="""
{hero.He} was [very small|the smallest one of all]. {hero.He} wanted to be big and strong.
{hero.He} was very little, but {hero.he} had a big heart.
""",
    scene="""
{who} was walking {place.at}. {hero.He} heard a loud sound. "[Ow|Oh]! Ow!" somebody cried.
{who} wanted to find some food {place.at}. Then {hero.he} heard a loud cry. "[Ow|Help]! It hurts!"
""",
    problem="""
It was a big {friend.kind} named {friend}. {friend.He} had a [thorn|sharp thorn] in {friend.his} foot and could not walk.
{hero} saw a big {friend.kind}. {friend.His} name was {friend}, and {friend.he} had a thorn in {friend.his} foot.

{hero} was [a little scared|afraid], but {hero.he} went closer. "[Can I help you|Do you need help]?" {hero.he} asked.
{hero} wanted to run away. But {friend} looked so sad that {hero} [stopped|stayed]. "[I can help you|Let me help you]," {hero.he} said.
""",
    attempt="""
"You are too small to help me," said {friend}. [{friend.He} pulled at the thorn, but {friend.his} paws were too big.|{friend.He} started to cry.]
{friend} [laughed|shook {friend.his} head]. "You? You are so little!" {friend.he} said. "[What can you do|How can you help]?"

"[I may be small|I am little], but I can try," said {hero}. {hero.He} [looked at the foot|sat down by the foot].
"Small hands are good for small things," said {hero}. "[Please hold still|Do not move]."

{hero} pulled [once|a little], but the thorn did not come out. "[Try again|Please do not stop]," said {friend}.
First, {hero} pulled with one hand. The thorn did not move. Then {hero.he} used both hands.
""",
    solution="""
{hero} pulled with all {hero.his} strength. [Pop|Plop]! The thorn came out!
{hero} pulled one more time. One, two, three... [Pop|Plop]! Out came the thorn!

"It does not hurt anymore!" said {friend}. "Thank you, {hero}! [You saved me|You are very brave]."
{friend} stood up and walked. [It did not hurt.|{friend.He} was so happy.] "I was wrong," {friend.he} said. "You are small, but you are [strong|a big help]."

{friend} let {hero} ride on {friend.his} back. {hero} could see [the whole forest|far, far away].
Then {friend} [picked|found] some sweet berries for {hero}, and they ate them together.
""",
    ending="""
{hero} was very proud. {hero.He} learned that even [a small friend can be a big help|the little ones can do big things].
From that day on, {hero} and {friend} were best friends. {hero} did not want to be big anymore.
After that, nobody said that {hero} was too small. [It was a happy day.|{friend} told everyone about it.]
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
Then somebody knocked on the door. It was {hero.his} {friend.intro}. {friend.He} was [wet|shaking] from the cold.

"The wind blew my house away," said {friend}. "[Can I stay here?|I have no place to sleep.]"
"My home is full of [water|snow]," said {friend}. "[I do not know where to go.|May I come in, {hero}?]"
""",
    attempt="""
"Come in, come in!" said {hero}. {hero.He} gave {friend} a cup of [warm milk|hot soup].
"[Of course|Yes], you can stay with me," said {hero}. {hero.He} made some [hot soup|warm milk] for {friend}.

But {friend} was still cold, and {hero} had only one {blanket.noun}. {hero} [thought about it|did not know what to do].
But there was only one {blanket.noun} in the house. "If I give it to {friend}, I will be cold," {hero} thought.

First, {hero.he} looked for another {blanket.noun}, but there was none. Then {hero.he} had an idea.
{hero} looked [in every box|under the bed] for something warm. There was nothing. Then {hero.he} looked at {hero.his} {blanket} again.
""",
    solution="""
"This {blanket.noun} is big," said {hero}. "[We can share it|There is room for two]!" They lay down side by side.
"[Come here|Sit close to me]," said {hero}. {hero.He} put the {blanket} around them both.

Soon they were both warm. It was [warmer|even warmer] with two! [They told stories until they fell asleep.|They did not hear the wind anymore.]
They [told funny stories|sang a soft song]. Soon {friend} was warm, and {hero} was warm too.

In the morning, the sun came out. {hero} helped {friend} [fix {friend.his} house|make a new home].
The next day, they worked together and made a [new|strong] house for {friend}.
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
{who} was playing hide and seek with {hero.his} {friend.intro} {place.at}. {hero} [saw|found] an old log with a hole in it.
{who} wanted to find a good place to hide from {hero.his} {friend.intro}. They were playing {place.at}, and {hero.he} saw an old log.
""",
    problem="""
"[This is a good place to hide|Nobody will find me here]," said {hero}. {hero.He} went in, but then {hero.he} could not get out!
{hero} went into the log. It was [dark and small|very small] inside. {hero.He} tried to turn around, but {hero.he} was stuck!

{friend} looked and looked. "Where are you, {hero}?" {friend.he} called. "Help! I am stuck in the log!" cried {hero}.
"Help! Help!" cried {hero}. {friend} heard {hero.him} and came [running|as fast as {friend.he} could].
""",
    attempt="""
{friend} took {hero.his} foot and pulled. {hero} did not move. {friend} pulled [harder|again]. {hero} still did not move.
{friend} pushed from one side. {hero} did not move. Then {friend} pulled from the other side. [It did not work.|It was no good.]

"Did you eat a lot of {food.noun} today?" asked {friend}. "[Yes, I did|Only ten]," said {hero} in a small voice.
"What will we do now?" asked {hero}. "[Do not worry|Stay still]," said {friend}. "I will think of something."
""",
    solution="""
Then {friend} had an idea. {friend.He} [found a long feather|picked a long piece of grass] and tickled {hero.his} foot.
{friend} thought hard. Then {friend.he} took a [soft feather|long leaf] and tickled {hero.his} feet.

{hero} laughed and laughed. {hero.He} [shook|moved] so much that the log began to roll. [Pop|Crack]! {hero.He} was out!
"Ha, ha, ha! Stop!" laughed {hero}. {hero.He} laughed so hard that the old log broke. [Crack|Snap]! {hero} was free!
""",
    ending="""
"Thank you, {friend}," said {hero}. "Next time, I will [hide behind a tree|find a bigger place to hide]." They both laughed.
{hero} gave {friend} a hug and some {food}. It was good to have a smart friend.
{hero} learned to look before going into [small|dark] places. Then {hero} and {friend} [played again|went home together].
""",
)

PLOTS = (WAY_HOME, GREEDY, SWIM, FLY, SMALL_HELPER, COLD_NIGHT, STUCK_IN_LOG)
