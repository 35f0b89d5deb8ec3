"""Plans about small animals that are braver than they think."""

from framework.data.embedded.grammar import plot
from framework.data.embedded.vocabulary import PARENTS, SMALL_FOREST_ANIMALS, WILD_PLACES

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
"Come in, the water is [warm|nice]," said {hero.his} {adult}. But {hero} [shook {hero.his} head|did not
    move]. "[It is too deep|I am afraid]," {hero.he} said.
{hero} put one foot in the water. It was [cold|wet and cold]! {hero.He} [ran|jumped] back to the grass.
""",
    attempt="""
Just then, {friend.kind_a} named {friend} looked out of the water. "[Why are you not swimming|Why do you
    look so sad]?" {friend.he} asked.
A little {friend.kind} named {friend} saw {hero.him}. "[What is wrong|Are you okay], little duck?"
    {friend.he} asked.

"I am afraid," said {hero}. "I was afraid too, [the first time|when I was little]," said {friend}. "[Start
    with one foot|We can go slowly]."
"The water is too deep for me," said {hero}. "[Stay close to me|I will stay with you]," said {friend}. "We
    can go step by step."

{hero} put in one foot, and then the other. {hero.He} took one more step. [Splash|Plop]! {hero.He} slipped!
{hero} took one step, then two, then three. The water came up to {hero.his} tummy. [Splash|Plop]! {hero.He}
    fell in!
""",
    solution="""
"Kick your feet!" said {friend}. {hero} kicked and kicked. {hero.He} did not go down. {hero.He} was swimming!
{hero} [kicked {hero.his} feet|moved {hero.his} big feet] as fast as {hero.he} could. "[Look|See]!" said
    {friend}. "You are swimming!"

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
{hero.He} lived in a nest at the top of a [tall|big] tree with {hero.his} {adult}. {hero.He} did not know
    how to fly.
{hero.He} had small wings. {hero.He} lived in a [warm|soft] nest with {hero.his} {adult}.
""",
    scene="""
{who} sat in {hero.his} nest and looked down. The ground was far, far away.
{who} wanted to fly [high in the sky|like the big birds]. {hero.He} stood on the side of {hero.his} nest
    with {hero.his} {adult}.
""",
    problem="""
"[Today is a good day to fly|It is time to fly]," said {hero.his} {adult}. "Open your wings and jump." But
    {hero} was too [scared|afraid].
{hero.His} {adult} [flew around the tree|showed {hero.him} how to fly]. "Now you try," {adult.he} said. But
    {hero} [shook {hero.his} head|held on tight].
""",
    attempt="""
A little {friend.kind} named {friend} came to the tree. "[Start small|Try a little jump first]," {friend.he}
    said. "[Jump to this branch|It is just one hop to this branch]."
{hero.His} {friend.intro} came by. "You do not have to go far," said {friend}. "Just come to [me|this
    branch]."

{hero} [took a deep breath|counted to three] and jumped. Flap, flap! {hero.He} landed on the branch.
{hero} opened {hero.his} wings and hopped. Flap, flap! {hero.He} was on the branch!
""",
    solution="""
"[See|Look]! You did it!" said {friend}. {hero} smiled. Then {hero.he} [jumped|flew] to the next branch, and
    the next.
"That was not so hard," said {hero}. {hero.He} tried [a longer jump|again]. Flap, flap, flap!

Then the wind came. {hero} opened {hero.his} wings [wide|as wide as {hero.he} could], and up {hero.he} went.
    {hero.He} was flying!
At last, {hero} let go and flew into the [blue|big blue] sky. [The wind felt good.|{hero.He} did not fall at
    all.]

"[Look at me|I can fly]!" {hero.he} [sang|shouted]. {hero.His} {adult} flew next to {hero.him} and was very
    proud.
{hero.His} {adult} clapped {adult.his} wings. "[I knew you could do it|You are a brave little bird],"
    {adult.he} said.
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
{hero.He} was the smallest one [of all|in the forest]. {hero.He} wanted to be big and strong.
{hero.He} was very little, but {hero.he} had a big heart.
""",
    scene="""
{who} was walking {place.at}. {hero.He} heard a loud sound. "[Ow|Oh]! Ow!" somebody cried.
{who} wanted to find some food {place.at}. Then {hero.he} heard a loud cry. "[Ow|Help]! It hurts!"
""",
    problem="""
It was a big {friend.kind} named {friend}. {friend.He} had a [thorn|sharp thorn] in {friend.his} foot and
    could not walk.
{hero} saw a big {friend.kind}. {friend.His} name was {friend}, and {friend.he} had a thorn in {friend.his}
    foot.

{hero} was [a little scared|afraid], but {hero.he} went closer. "[Can I help you|Do you need help]?"
    {hero.he} asked.
{hero} wanted to run away. But {friend} looked so sad that {hero} [stopped|stayed]. "[I can help you|Let me
    help you]," {hero.he} said.
""",
    attempt="""
"You are too small to help me," said {friend}. [{friend.He} pulled at the thorn, but {friend.his} paws were
    too big.|{friend.He} started to cry.]
{friend} [laughed|shook {friend.his} head]. "You? You are so little!" {friend.he} said. "[What can you
    do|How can you help]?"

{hero} pulled [once|a little], but the thorn did not come out. "[Try again|Please do not stop]," said
    {friend}.
First, {hero} pulled with one hand. The thorn did not move. Then {hero.he} used both hands.
""",
    solution="""
{hero} pulled with all {hero.his} strength. [Pop|Plop]! The thorn came out!
{hero} pulled one more time. One, two, three... [Pop|Plop]! Out came the thorn!

"It does not hurt anymore!" said {friend}. "Thank you, {hero}! [You saved me|You are very brave]."
{friend} stood up and walked. [It did not hurt.|{friend.He} was so happy.] "I was wrong," {friend.he} said.
    "You are small, but you are [strong|a big help]."
""",
    ending="""
{hero} was very proud. {hero.He} learned that even [a small friend can be a big help|the little ones can do
    big things].
From that day on, {hero} and {friend} were best friends. {hero} did not want to be big anymore.
After that, nobody said that {hero} was too small. [It was a happy day.|{friend} told everyone about it.]
""",
)

PLOTS = (SWIM, FLY, SMALL_HELPER)
