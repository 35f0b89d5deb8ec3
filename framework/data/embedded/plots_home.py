"""Plans that happen in and around the house: mess, dark, food, baking, noise, pets."""

from framework.data.embedded.grammar import plot
from framework.data.embedded.vocabulary import (
    CAKES,
    CRAFTS,
    DRUMS,
    NEW_FOODS,
    PARENTS,
    PETS,
    SCARY_SHAPES,
    SEEDS,
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

{hero} hid under [the blanket|the covers]. {hero.His} heart went thump, thump, thump.
{hero.He} pulled the blanket over {hero.his} head. "[Go away|Please go away]," {hero.he} whispered.
""",
    attempt="""
{hero} closed {hero.his} eyes and counted to ten. But when {hero.he} looked again, the shape was still there.
{hero} tried to sing a little song, but {hero.his} voice was too small. The shape was still there.

"[Help|Come quick]!" {hero} called. {hero.His} {adult} came [right away|into the room]. "What is wrong?" {adult.he} asked.
At last, {hero} called {hero.his} {adult}, who came and [sat down on the bed|held {hero.his} hand]. "What is the matter?" {adult.he} asked.

"There is a monster in [the corner|my room]," said {hero}. "[Let's look at it together|Let's see]," said {hero.his} {adult}.
"[I saw|I see] a monster," said {hero}. "Take my hand, and we will [look together|find out]," said {hero.his} {adult}.
""",
    solution="""
{hero.His} {adult} turned on the light. It was not a monster. It was only {shape.a}!
Click! The light went on. {hero} looked at the corner. There was no monster, only {shape.a}.

{hero} started to laugh. "[It was just|I was afraid of] my {shape.noun}!" {hero.he} said.
"Oh! It is only my {shape.noun}!" said {hero}. They both [laughed|giggled].

{hero.His} {adult} put a small lamp next to the bed. [It looked like a little moon.|It made a soft, warm light.]
"[The dark can play tricks on us|Things look different in the dark]," said {hero.his} {adult}. {adult.He} gave {hero.him} a little lamp.
""",
    ending="""
{hero} lay down and looked at the {shape.noun}. "[Good night|Sleep well]," {hero.he} said to it. Soon {hero.he} was asleep.
{hero} was not afraid anymore. {hero.He} [closed {hero.his} eyes|hugged {hero.his} pillow] and slept until morning.
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
{who} was running in the house with {hero.his} {pet}. There was a big cup of {drink.noun} on the table. "[Slow down|Be careful]," said {hero.his} {adult}.
{who} wanted to get a big cup of {drink.noun} from the table. {hero.He} did not ask {hero.his} {adult}. {hero.His} {pet} watched {hero.him}.
""",
    problem="""
Then {hero} [hit|bumped] the table. The cup fell over. [Crash|Splash]! The {drink} went all over the floor.
But {hero.his} arm hit the cup. [Crash|Splash]! The {drink} was [on the table, on the chair, and on the floor|everywhere].

"Oh no, what a mess!" {hero} said. {hero.He} did not want {hero.his} {adult} to be [angry|mad].
{hero} looked at the mess. {hero.He} was afraid that {hero.his} {adult} would be [angry|mad].
""",
    attempt="""
{hero} tried to hide the mess under a [towel|little rug]. But the {drink.noun} came out [on all sides|from under it].
First, {hero} tried to clean it with {hero.his} [socks|sleeve]. But that made the mess even bigger.

Then {hero.his} {adult} came in. "[Who did this|What happened here]?" {adult.he} asked. "The dog did it," said {hero}.
{hero.His} {adult} came into the room. "[Oh my! Who made this mess|How did this happen]?" {adult.he} asked. {hero} said, "It was the dog."

The {pet.noun} [looked at {hero} with sad eyes|put its head down]. {hero} felt bad inside.
"Bad dog! Go outside," said {hero.his} {adult}. The dog [looked so sad|walked to the door]. {hero} did not feel good.
""",
    solution="""
"[Wait|No]! It was not the dog," said {hero}. "It was me. [I am sorry|I am so sorry]."
{hero} [started to cry|looked at {hero.his} feet]. "It was not the dog," {hero.he} said. "I did it. I am sorry I told a lie."

{hero.His} {adult} was quiet. Then {adult.he} [smiled|gave {hero.him} a hug]. "[Thank you for telling the truth|I am glad you told me the truth]," {adult.he} said.
"[It was an accident|Everybody makes a mess sometimes]," said {hero.his} {adult}. "But it is important to tell the truth."

They [took a big towel and cleaned|cleaned] the floor together. Then {hero} gave the dog [a treat|a big hug].
{hero} got some water and a towel and helped to clean up. Soon the floor was [clean|dry] again.
""",
    ending="""
"I am sorry, good dog," said {hero}. The dog [licked {hero.his} face|wagged its tail]. They were friends again.
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
{who} wanted to have lunch. {hero.He} sat down next to {hero.his} {friend.intro}, and {hero.his} {adult} came with the food.
""",
    problem="""
There was some {dish} on {hero.his} plate. "What is this?" {hero.he} asked. "It looks [funny|strange]."
{hero.His} {adult} put some {dish} in front of {hero.him}. "[Yuck|Oh no]! I do not like it," said {hero}.

"[Just try it|Try a little bit]," said {hero.his} {adult}. But {hero} [closed {hero.his} mouth|shook {hero.his} head].
"You did not even try it," said {hero.his} {adult}. {hero} [pushed the plate away|put {hero.his} hands over {hero.his} mouth].
""",
    attempt="""
{friend} took a big bite. "[Mmm, yummy|Yum, this is so good]!" {friend.he} said. {hero} [looked at {friend.him}|did not believe it].
{friend} ate and ate. "[This is the best|I love it]!" said {friend}. But {hero} still did not want any.

{hero} [tried to give it to the cat|hid it under the bread], but even the cat [walked|ran] away.
{hero} [waited and waited|looked at the food for a long time]. {hero.His} tummy made a [loud|funny] sound. {hero.He} was so hungry!

"I will make you a deal," said {hero.his} {adult}. "[Try one small bite|Eat just one bite]. If you do not like it, you can stop."
"Close your eyes and take one bite," said {friend}. "[One, two, three|I will do it with you]!"
""",
    solution="""
{hero} closed {hero.his} eyes and took a [tiny|very small] bite. [It was not bad at all.|It tasted better than it looked.] {hero.He} took another bite.
{hero} took one little bite. {hero.He} [waited|opened {hero.his} eyes]. Then {hero.he} smiled. It was [good|yummy]!

"[It is yummy|I like it]!" said {hero}. {hero.He} ate it all up. [{friend} laughed.|The plate was empty.]
Soon the plate was empty. "Can I have [some more|more], please?" {hero.he} asked. Everybody laughed.
""",
    ending="""
{hero} learned that [you cannot know if you do not try|new things can be good].
After that day, {hero} always took one bite of new food. Sometimes {hero.he} [liked it|even asked for more].
"[Tomorrow|Next time], I will try something else," said {hero}. {hero.His} {adult} was [proud|happy].
""",
)

BAKING = plot(
    "baking",
    when="indoor",
    cake=CAKES,
    extras=(Character("grandma", "grandma", female=True),),
    grown_ups=PARENTS,
    trait="""
{hero.He} liked to [help in the kitchen|make good things to eat].
{hero.He} loved {hero.his} {adult} and always wanted to help {adult.him}.
""",
    scene="""
{who} wanted to make {cake.a} for {hero.his} {adult}. It was {adult.his} birthday. {hero.His} {friend.intro} came to help.
{who} had a secret. It was {hero.his} {adult}'s birthday, and {hero.he} and {hero.his} {friend.intro} wanted to make {cake.a}.
""",
    problem="""
{hero} put [flour|eggs and flour] in a [big|blue] bowl. {friend} put in the milk. They mixed and mixed.
They put eggs, flour, and milk in a bowl. {hero} [mixed it with a big spoon|mixed and mixed].

But then the bag of flour fell down. [Poof|Puff]! There was flour [everywhere|on the floor and on their noses]!
Then {friend} knocked over the flour. [Poof|Puff]! They were white from head to toe. What a big mess!
""",
    attempt="""
"[Oh no|Oh dear]! We look like [ghosts|two snowmen]," said {hero}. They [laughed|giggled], and then they cleaned the floor.
They [got a broom and|took a towel and] cleaned up the mess. "Let's be more careful," said {friend}.

Then {friend} [tasted it|put {friend.his} finger in and tasted it]. "[Yuck|Something is wrong]! It is not sweet," {friend.he} said.
{hero} took a little taste. "[Hmm|Oh], it is not sweet," {hero.he} said. "What did we forget?"

They [looked at the table|thought and thought]. "The sugar!" they said together. They had forgotten the sugar.
"[I know|Look]! We forgot the sugar!" said {friend}. {hero} [hit {hero.his} head with {hero.his} hand|laughed out loud].
""",
    solution="""
{hero} put in a cup of sugar, and they mixed it again. [This time it was very good.|Now it was sweet.]
They put in the sugar and tried it again. "[Yum|Perfect]!" they said.

{hero}'s grandma put it in the hot oven for them. Soon the [house|kitchen] smelled so good.
{hero}'s grandma helped them with the hot oven. They waited, and waited, and then it was ready.

When {hero}'s {adult} came home, they shouted, "[Surprise|Happy birthday]!" {adult.He} [could not believe it|had a big smile on {adult.his} face].
Then {hero.his} {adult} came in. "Happy birthday!" said {hero} and {friend}. "For me? [Thank you|How sweet]!" {adult.he} said.
""",
    ending="""
They all ate the {cake}. It was [a little flat|not very pretty], but it was the best {cake.noun} ever. {hero} was proud.
"It is [yummy|so good]," said {hero.his} {adult}, "because you made it with love." {hero} gave {adult.him} a big hug.
{hero} learned that [a mess is okay if you clean it up|when something goes wrong, you can try again].
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
{who} was playing {hero.his} {drum} at home. [It was very loud.|{hero.He} danced around the room.] {hero.His} baby sister was asleep.
{who} wanted to play {hero.his} {drum}. {hero.He} played it very loud in the house, but {hero.his} baby sister was asleep.
""",
    problem="""
The sound was so loud that the baby woke up. [Waa, waa|Waa]! The baby cried and cried.
"Waa, waa!" The baby woke up and [started to cry|cried very loud].

"[Oh no|Oh], {hero}," said {hero.his} {adult}. "The baby was [so tired|asleep]. Now she will not stop crying."
{hero.His} {adult} [came in|ran in]. {adult.He} looked very tired. "Your {drum.noun} woke the baby," {adult.he} said.
""",
    attempt="""
{hero} felt [bad|sorry]. {hero.He} gave the baby a toy, but she [threw it down|did not want it].
"I am sorry," said {hero}. {hero.He} made a funny face, but the baby [cried even more|did not laugh].

{hero.His} {adult} [gave the baby some milk|walked up and down with the baby], but she still cried.
{hero.His} {adult} [sang to the baby|gave her a bottle], but that did not help.

Then {hero} [had an idea|looked at the {drum.noun}]. What if {hero.he} played very, very softly?
"[Can I try something?|I have an idea,]" said {hero}. {hero.He} took the {drum.noun} and sat down [by the bed|next to the baby].
""",
    solution="""
{hero.He} played a soft, slow song. The baby [stopped crying|looked at {hero.him}] and listened.
{hero} played as softly as {hero.he} could. It was [soft and sweet|a slow and sweet song]. The baby was quiet.

Then the baby smiled. [She closed her eyes.|Her eyes got small.] Soon she was asleep again.
The baby [laughed once|smiled], and then her eyes closed. She was asleep.

"[Well done|That was beautiful]," whispered {hero.his} {adult}. "You [made the baby happy|are a big help]."
{hero.His} {adult} [hugged {hero.him}|smiled]. "You found a good way to use your {drum.noun}," {adult.he} whispered.
""",
    ending="""
From then on, {hero} played [loud songs outside and soft songs inside|softly when the baby was asleep].
{hero} was proud. Every night, {hero.he} played a soft song for {hero.his} baby sister.
{hero} learned to think about others. And the baby [loved the soft songs|always smiled when she heard {hero.him} play].
""",
)

SEED = plot(
    "planting a seed",
    when="any",
    plant=SEEDS,
    trait="""
{hero.He} liked to help {hero.his} {adult} in the garden.
{hero.He} did not like to wait. {hero.He} wanted everything right now.
""",
    scene="""
{who} wanted to grow {plant.a}. {hero.His} {adult} gave {hero.him} a tiny seed.
{who} got a little seed from {hero.his} {adult}. "[One day|If you take care of it], it will be {plant.a}," {adult.he} said.
""",
    problem="""
{hero} [made a hole in the ground|made a little hole] and put the seed in. Then {hero.he} gave it some water and sat down to wait.
They put the seed in the ground. {hero} gave it [water|a lot of water] and looked at it [all afternoon|for a long time].

But nothing happened. "[Why does it not grow|Where is my plant]?" {hero.he} asked. "[Wait and see|You must wait]," said {hero.his} {adult}.
The next day, {hero} ran to look. [There was nothing there.|There was only dirt.] "[It is not growing|It is too slow]," {hero.he} said.
""",
    attempt="""
{hero} tried to sing to the seed. [It did not grow.|Still, nothing happened.] {hero.He} told it a story. Nothing happened.
{hero} said, "Grow, seed, grow!" [But the seed did not listen.|But nothing came up.]

Then {hero} wanted to dig it up. "[Stop|No]!" said {hero.his} {adult}. "[A seed needs time|The seed is sleeping]. Give it water and sun, and wait."
"[Can I dig it up and look|May I look at it]?" asked {hero}. "No," said {hero.his} {adult}. "If you dig it up, it cannot grow."

So {hero} waited. {hero.He} gave the seed water every [day|morning]. [The sun was warm, and the rain came too.|One day, two days, three days went by.]
{hero} tried hard to wait. Every [day|morning], {hero.he} gave it some water and said hello.
""",
    solution="""
Then, one morning, {hero} saw something [small and green|green]. "[Look|Come and see], {adult.call}!" {hero.he} shouted. "It is growing!"
One morning, there was a tiny green leaf. {hero} [jumped up and down|danced around it]. "It is growing!" {hero.he} called.

It grew [bigger and bigger|up and up]. At last, it was {plant.a}. It was [beautiful|wonderful]!
Day by day, it grew a little more. Soon {hero} had {plant.a}, and it was [beautiful|lovely].
""",
    ending="""
"[Good things take time|You waited so well]," said {hero.his} {adult}. {hero} smiled at the {plant.noun}. {hero.He} was very proud.
{hero} learned that [some things are worth the wait|good things need time]. {hero.He} loved {hero.his} {plant}.
"I am glad I waited," said {hero}. Then {hero.he} asked for [another seed|one more seed].
""",
)

GIFT = plot(
    "a gift blown away",
    when="any",
    craft=CRAFTS,
    trait="""
{hero.He} liked to [draw|paint] and make things out of paper.
{hero.He} loved {hero.his} {adult} very much. {hero.He} wanted to make {adult.him} happy.
""",
    scene="""
{who} wanted to make a gift for {hero.his} {adult}. {hero.He} took some paper and made {craft.a}.
{who} made {craft.a} for {hero.his} {adult}. {hero.He} [worked on it all morning|used all {hero.his} best colors].
""",
    problem="""
{hero} [took it outside|went out of the door] to show it to {hero.his} {friend.intro}. Then the wind blew and took it away!
{hero} showed it to {hero.his} {friend.intro} in the yard. But a strong wind came. [Whoosh|Whoo]! It blew the {craft.noun} away.

"[Come back|Stop]!" {hero} shouted. But the {craft.noun} flew over the fence.
"My {craft.noun}!" cried {hero}. It went [up, up, and away|over the fence and down the hill].
""",
    attempt="""
{hero} and {friend} ran after it. They ran past [the big tree|the red house], but the wind was faster.
They ran and ran. {friend} [jumped|tried to catch it], but {friend.he} missed.

Then it fell into [a puddle|some mud]. {hero} picked it up. It was [wet and dirty|all wet]. {hero.He} started to cry.
At last, it landed in [a puddle|the mud]. "[Oh no, it is ruined|Look at it now]," said {hero}, and {hero.he} was very sad.
""",
    solution="""
"[Do not cry|Do not be sad]," said {friend}. "[We can make a new one|I will help you make another one]." They went back inside.
{friend} put {friend.his} arm around {hero.him}. "Let's make another one [together|and make it even better]," {friend.he} said.

{hero} cut the paper, and {friend} [helped with the colors|held the glue]. They put [a big red heart|a yellow sun] on it. It was [even better|very nice]!
They worked [hard|side by side]. {friend} drew [a little sun|some flowers], and {hero} drew a big heart.

Then {hero} gave it to {hero.his} {adult}. "I made it for you, and {friend} helped," {hero.he} said.
When it was ready, {hero} ran to {hero.his} {adult}. "[Surprise|This is for you]!" {hero.he} said.
""",
    ending="""
"[I love it|It is wonderful]!" said {hero.his} {adult}, and {adult.he} hugged {hero}. It was a [very happy|good] day.
{hero.His} {adult} put it [on the wall|next to the bed] for everyone to see. {hero} was so proud.
"Thank you, {friend}," said {hero}. {hero.He} learned that you can always [start again|try again with a friend].
""",
)

DOG_BATH = plot(
    "dog bath",
    when="sun",
    pet=PETS,
    trait="""
{hero.He} had {pet.a} named Spot. [They were best friends.|They did everything together.]
{hero.He} loved {hero.his} dog Spot. Spot was {pet.a}.
""",
    scene="""
{who} was in the garden with {hero.his} dog Spot. Spot [found a big puddle|saw some mud] and jumped right in.
{who} wanted to give {hero.his} dog Spot a bath. Spot was full of mud from nose to tail.
""",
    problem="""
"[Oh, Spot|Spot]! You are so dirty," said {hero}. "You need a bath." But Spot did not like baths.
Spot was [very dirty|brown with mud]. "Time to wash!" said {hero}. But Spot was afraid of [soap|the water].

When Spot saw the water, it [ran away|ran as fast as it could]. {hero} ran after it.
Spot [looked at the tub|saw the soap] and ran away. "Come back, Spot!" called {hero}.
""",
    attempt="""
Spot ran around the tree and [under the table|over the flowers]. {hero} tried to catch it, but {hero.he} fell [down|in the grass].
{hero} ran [to the left and to the right|this way and that way], but the dog was too fast.

{hero.His} {adult} came to help. {adult.He} [called Spot|held out {adult.his} arms], but the dog ran right between {adult.his} legs!
"I will help you," said {hero.his} {adult}. {adult.He} tried to catch Spot, but {adult.he} [got mud on {adult.his} face|slipped in the mud].

Then {hero} sat down to think. "[Spot loves to play|Spot likes toys]," {hero.he} said. "[I know what to do|That is it]!"
{hero} stopped running. "[I have an idea|I know]!" {hero.he} said. "What does Spot like best? Toys!"
""",
    solution="""
{hero} threw a [rubber duck|little ball] into the tub. [Splash|Plop]! Spot jumped in after it.
{hero} put a [ball|toy boat] in the water. Spot [looked at it|wagged its tail]. Then, splash! Spot jumped in!

{hero} washed Spot with [warm water|lots of soap] while it played. [Spot liked it!|Spot was not afraid anymore.]
They washed Spot while it played. Soon there were bubbles [everywhere|on every nose].

Then Spot shook and shook. Water flew everywhere! Now {hero} and {hero.his} {adult} were wet too.
When Spot came out, it shook its fur. {hero} and {hero.his} {adult} [got all wet|had a bath too]!
""",
    ending="""
They all laughed. {hero} [dried Spot with a big towel|hugged {hero.his} clean dog]. Spot was [soft|clean] and happy.
From that day on, Spot [liked baths|was not afraid of baths], and {hero} always put a toy in the tub.
{hero} learned that [hard things can be fun if you make a game of them|a kind way is the best way].
""",
)

PLOTS = (DARK, SPILL, NEW_FOOD, BAKING, TOO_LOUD, SEED, GIFT, DOG_BATH)
