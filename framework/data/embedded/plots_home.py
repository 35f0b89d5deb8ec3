"""Plans that happen in the house: the dark, a lie, new food, a noisy drum, a rocket made of a box."""

from framework.data.embedded.grammar import plot
from framework.data.embedded.vocabulary import (
    DRUMS,
    NEW_FOODS,
    PARENTS,
    PETS,
    SCARY_SHAPES,
    SPILLS,
    Character,
)

DARK = plot(
    "afraid of the dark",
    when="night",
    shape=SCARY_SHAPES,
    trait="""
{hero.He} was not afraid of dogs or bugs. But {hero.he} was afraid of the dark.
{hero.He} was brave in the day, but at night {hero.he} was afraid.
""",
    scene="""
{who} was in bed. The room was very dark, and {hero.he} could not sleep.
{who} wanted to sleep, but {hero.his} room was too dark. The wind went whoo, whoo outside.
{who} went to bed. {hero.His} {adult} gave {hero.him} a kiss and turned off the light.
""",
    problem="""
Then {hero} saw something [big|dark] in the corner. [It looked like a monster!|It had long arms!]
In the corner, {hero} saw a [big|dark] shape. [It looked like a bear!|It did not move at all.]
""",
    attempt="""
"[Help|Come quick]!" {hero} called. {hero.His} {adult} came [right away|into the room]. "What is wrong?"
    {adult.he} asked.
At last, {hero} called {hero.his} {adult}, who came and [sat down on the bed|held {hero.his} hand]. "What is
    the matter?" {adult.he} asked.

"There is a monster in [the corner|my room]," said {hero}. "[Let's look at it together|Let's see]," said
    {hero.his} {adult}.
"[I saw|I see] a monster," said {hero}. "Take my hand, and we will [look together|find out]," said
    {hero.his} {adult}.
""",
    solution="""
{hero.His} {adult} turned on the light. It was not a monster. It was only {shape.a}!
Click! The light went on. {hero} looked at the corner. There was no monster, only {shape.a}.

{hero} started to laugh. "[It was just|I was afraid of] my {shape.noun}!" {hero.he} said.
"Oh! It is only my {shape.noun}!" said {hero}. They both [laughed|giggled].
""",
    ending="""
{hero} lay down and looked at the {shape.noun}. "[Good night|Sleep well]," {hero.he} said to it. Soon
    {hero.he} was asleep.
{hero} was not afraid anymore. {hero.He} [closed {hero.his} eyes|hugged {hero.his} pillow] and slept until
    morning.
After that night, {hero} knew that [there were no monsters in the dark|the dark was not so bad].
""",
)

SPILL = plot(
    "telling the truth",
    when="indoor",
    drink=SPILLS,
    pet=PETS,
    grown_ups=PARENTS,
    trait="""
{hero.He} lived with {hero.his} {adult} and {pet.a}. {hero.He} liked to do things by {hero.himself}.
{hero.He} had {pet.a}. {hero.He} liked to run and jump in the house.
""",
    scene="""
{who} was running in the house with {hero.his} {pet}. There was a big cup of {drink.noun} on the table.
    "[Slow down|Be careful]," said {hero.his} {adult}.
{who} wanted to get a big cup of {drink.noun} from the table. {hero.He} did not ask {hero.his} {adult}.
    {hero.His} {pet} watched {hero.him}.
""",
    problem="""
Then {hero} [hit|bumped] the table. The cup fell over. [Crash|Splash]! The {drink} went all over the floor.
But {hero.his} arm hit the cup. [Crash|Splash]! The {drink} was [on the table, on the chair, and on the
    floor|everywhere].
""",
    attempt="""
Then {hero.his} {adult} came in. "[Who did this|What happened here]?" {adult.he} asked. "The dog did it,"
    said {hero}.
{hero.His} {adult} came into the room. "[Oh my! Who made this mess|How did this happen]?" {adult.he} asked.
    {hero} said, "It was the dog."

The {pet.noun} [looked at {hero} with sad eyes|put its head down]. {hero} felt bad inside.
"Bad dog! Go outside," said {hero.his} {adult}. The dog [looked so sad|walked to the door]. {hero} did not
    feel good.
""",
    solution="""
"[Wait|No]! It was not the dog," said {hero}. "It was me. [I am sorry|I am so sorry]."
{hero} [started to cry|looked at {hero.his} feet]. "It was not the dog," {hero.he} said. "I did it. I am
    sorry I told a lie."

{hero.His} {adult} was quiet. Then {adult.he} [smiled|gave {hero} a hug]. "[Thank you for telling the
    truth|I am glad you told me the truth]," {adult.he} said.
"[It was an accident|Everybody makes a mess sometimes]," said {hero.his} {adult}. "But it is important to
    tell the truth."

They [took a big towel and cleaned|cleaned] the floor together. Then {hero} gave the dog [a treat|a big hug].
{hero} got some water and a towel and helped to clean up. Soon the floor was [clean|dry] again.
""",
    ending="""
"I am sorry, good dog," said {hero}. The dog [licked {hero.his} face|wagged its tail]. They were friends
    again.
{hero} felt [much better|light and happy]. {hero.He} learned that it is [best|always good] to tell the truth.
From that day on, {hero} [told the truth, even when it was hard|did not tell lies anymore].
""",
)

NEW_FOOD = plot(
    "trying new food",
    when="any",
    dish=NEW_FOODS,
    trait="""
{hero.He} liked to eat [bread and cheese|noodles] every day. {hero.He} did not like new food.
{hero.He} did not want to try new things. {hero.He} ate only [noodles|bread and cheese].
""",
    scene="""
{who} sat down at the table with {hero.his} {adult} and {hero.his} {friend.intro}. It was time for lunch.
{who} was very hungry. {hero.He} sat down to eat with {hero.his} {friend.intro} and {hero.his} {adult}.
{who} wanted to have lunch. {hero.He} sat down next to {hero.his} {friend.intro}, and {hero.his} {adult}
    came with the food.
""",
    problem="""
There was some {dish} on {hero.his} plate. "What is this?" {hero.he} asked. "It looks [funny|strange]."
{hero.His} {adult} put some {dish} in front of {hero.him}. "[Yuck|Oh no]! I do not like it," said {hero}.

"[Just try it|Try a little bit]," said {hero.his} {adult}. But {hero} [closed {hero.his} mouth|shook
    {hero.his} head].
"[How do you know? You did not try it yet|Good food can look funny]," said {hero.his} {adult}. {hero}
    [pushed the plate away|put {hero.his} hands over {hero.his} mouth].
""",
    attempt="""
{friend} took a big bite. "[Mmm, yummy|Yum, this is so good]!" {friend.he} said. {hero} [looked at
    {friend.him}|did not believe it].
{friend} ate and ate. "[This is the best|I love it]!" said {friend}. But {hero} still did not want any.

"I will make you a deal," said {hero.his} {adult}. "[Try one small bite|Eat just one bite]. If you do not
    like it, you can stop."
"Close your eyes and take one bite," said {friend}. "[One, two, three|I will do it with you]!"
""",
    solution="""
{hero} closed {hero.his} eyes and took a [tiny|very small] bite. [It was not bad at all.|It tasted better
    than it looked.] {hero.He} took another bite.
{hero} took one little bite. {hero.He} [waited|opened {hero.his} eyes]. Then {hero.he} smiled. It was
    [good|yummy]!

"[It is yummy|I like it]!" said {hero}. {hero.He} ate it all up. [{friend} laughed.|The plate was empty.]
Soon the plate was empty. "Can I have [some more|more], please?" {hero.he} asked. Everybody laughed.
""",
    ending="""
{hero} learned that [you cannot know if you do not try|new things can be good].
After that day, {hero} always took one bite of new food. Sometimes {hero.he} [liked it|even asked for more].
"[Tomorrow|Next time], I will try something else," said {hero}. {hero.His} {adult} was [proud|happy].
""",
)

TOO_LOUD = plot(
    "too loud",
    when="indoor",
    drum=DRUMS,
    extras=(Character("the baby", "baby", female=True, role="sister"),),
    grown_ups=PARENTS,
    trait="""
{hero.He} had {drum.a}. {hero.He} liked to play it [all day long|very loud].
{hero.He} loved music. {hero.He} got {drum.a} for {hero.his} birthday.
""",
    scene="""
{who} was playing {hero.his} {drum} at home. [It was very loud.|{hero.He} danced around the room.]
    {hero.His} baby sister was asleep.
{who} wanted to play {hero.his} {drum}. {hero.He} played it very loud in the house, but {hero.his} baby
    sister was asleep.
""",
    problem="""
The sound was so loud that the baby woke up. [Waa, waa|Waa]! The baby cried and cried.
"Waa, waa!" The baby woke up and [started to cry|cried very loud].

"[Oh no|Oh], {hero}," said {hero.his} {adult}. "The baby was [so tired|asleep]. Now she will not stop crying."
{hero.His} {adult} [came in|ran in]. {adult.He} looked very tired. "Your {drum.noun} woke the baby,"
    {adult.he} said.
""",
    attempt="""
{hero} felt [bad|sorry]. {hero.He} gave the baby a toy, but she [threw it down|did not want it].
"I am sorry," said {hero}. {hero.He} made a funny face, but the baby [cried even more|did not laugh].

Then {hero} [had an idea|looked at the {drum.noun}]. What if {hero.he} played very, very softly?
"[Can I try something?|I have an idea,]" said {hero}. {hero.He} took the {drum.noun} and sat down [by the
    bed|next to the baby].
""",
    solution="""
{hero.He} played a soft, slow song. The baby [stopped crying|looked at {hero.him}] and listened.
{hero} played as softly as {hero.he} could. It was [soft and sweet|a slow and sweet song]. The baby was quiet.

Then the baby smiled. [She closed her eyes.|Her eyes got small.] Soon she was asleep again.
The baby [laughed once|smiled], and then her eyes closed. She was asleep.

"[Well done|That was beautiful]," whispered {hero.his} {adult}. "You [made the baby happy|are a big help]."
{hero.His} {adult} [hugged {hero.him}|smiled]. "You found a good way to use your {drum.noun}," {adult.he}
    whispered.
""",
    ending="""
From then on, {hero} played [loud songs outside and soft songs inside|softly when the baby was asleep].
{hero} was proud. Every night, {hero.he} played a soft song for {hero.his} baby sister.
{hero} learned to think about others. And the baby [loved the soft songs|always smiled when she heard
    {hero.him} play].
""",
)

ROCKET = plot(
    "box rocket",
    when="indoor",
    grown_ups=PARENTS,
    trait="""
{hero.He} wanted to go to the moon. {hero.He} talked about it all day.
{hero.He} liked to pretend. {hero.He} could be a king, a cook, or a lion.
""",
    scene="""
{who} found a big box at home. "[This is my rocket|This can be a rocket]!" {hero.he} said to {hero.his}
    {friend.intro}.
{who} wanted to go to the moon. {hero.He} found a big box and said to {hero.his} {friend.intro}, "This is my
    rocket!"
""",
    problem="""
"I am the captain," said {hero}. "No, I am the captain!" said {friend}. They [both tried to get in
    first|pushed each other].
"I will fly it," said {hero}. "[No, me|I want to fly it]!" said {friend}. They both [jumped in at
    once|pulled at the box].

Rip! The side of the box [broke|opened]. The rocket fell [down flat|over].
Then the box went rip! One side was [torn|broken]. They [looked at it|sat on the floor] and were very sad.
""",
    attempt="""
Then {hero}'s {adult} came in. "[What happened to your rocket|Why is it so quiet in here]?" {adult.he}
    asked. They told {adult.him} everything.
{hero}'s {adult} saw the broken box. "[A rocket needs a good team|Nobody flies to the moon alone],"
    {adult.he} said.
""",
    solution="""
{hero} looked at {friend}. "I am sorry," {hero.he} said. "[I am sorry too|Me too]," said {friend}. "[Let's
    fix it|We can fix it together]."
"[I am sorry I pushed|I was not nice]," said {hero}. "Me too," said {friend}. They [shook hands|hugged].

They fixed the box with a lot of tape. [Now it was even stronger.|It was not pretty, but it was strong.]
    "There can be two captains," said {hero}.
{hero}'s {adult} gave them some tape, and they fixed the box. "You fly to the moon, and I will fly us
    [home|back]," said {hero}.

"Three, two, one, go!" they shouted. They flew past the [stars|sun and the stars] and [landed on the
    moon|saw a green moon man].
They got in together. "Three, two, one, go!" [Off they went to the moon.|The rocket went up to the stars.]
""",
    ending="""
They were back on the ground in time for [lunch|dinner]. "It is more fun with two," said {hero}, and
    {friend} [smiled|said yes].
{hero} learned that it is [better to be a team|no fun to fight]. Every day, {hero} and {friend} flew
    somewhere new.
{hero} and {friend} told {hero.his} {adult} all about the moon. It was the best trip ever.
""",
)

PLOTS = (DARK, SPILL, NEW_FOOD, TOO_LOUD, ROCKET)
