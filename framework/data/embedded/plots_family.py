"""Plans about doing something with or for the family: baking, growing, giving, going out."""

from framework.data.embedded.grammar import plot
from framework.data.embedded.vocabulary import (
    BLANKETS,
    CAKES,
    CRAFTS,
    CROWDED_PLACES,
    PARENTS,
    PICNIC_PLACES,
    SEEDS,
    Character,
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
{who} wanted to make {cake.a} for {hero.his} {adult}. It was {adult.his} birthday. {hero.His} {friend.intro}
    came to help.
{who} had a secret. It was {hero.his} {adult}'s birthday, and {hero.he} and {hero.his} {friend.intro} wanted
    to make {cake.a}.
""",
    problem="""
{hero} put [flour|eggs and flour] in a [big|blue] bowl. {friend} put in the milk. They mixed and mixed.
They put eggs, flour, and milk in a bowl. {hero} [mixed it with a big spoon|mixed and mixed].
""",
    attempt="""
Then {friend} [tasted it|put a finger in and tasted it]. "[Yuck|Something is wrong]! It is not sweet,"
    {friend.he} said.
{friend} took a little taste. "[Hmm|Oh], it is not sweet," {friend.he} said. "What did we forget?"

They [looked at the table|thought and thought]. "The sugar!" they said together. They had forgotten the sugar.
"[I know|Oh]! We forgot the sugar!" said {hero}. They both laughed [out loud|and laughed].
""",
    solution="""
{hero} put in a cup of sugar, and they mixed it again. [This time it was very good.|Now it was sweet.]
They put in the sugar and tried it again. "[Yum|Perfect]!" they said.

{hero}'s grandma put it in the hot oven for them. Soon the [house|kitchen] smelled so good.
{hero}'s grandma helped them with the hot oven. They waited, and waited, and then it was ready.

When {hero}'s {adult} came home, they shouted, "[Surprise|Happy birthday]!" {adult.He} [could not believe
    it|had a big smile on {adult.his} face].
Then {hero.his} {adult} came in. "Happy birthday!" said {hero} and {friend}. "For me? [Thank you|How
    sweet]!" {adult.he} said.
""",
    ending="""
They all ate the {cake}. It was [a little flat|not very pretty], but it was the best {cake.noun} ever.
    {hero} was proud.
"It is [yummy|so good] because you made it with love," said {hero.his} {adult}. {hero} gave {adult.him} a
    big hug.
{hero} learned that [a mess is okay if you clean it up|when something goes wrong, you can try again].
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
{who} got a little seed from {hero.his} {adult}. "[One day|If you take care of it], it will be {plant.a},"
    {adult.he} said.
""",
    problem="""
{hero} [made a hole in the ground|made a little hole] and put the seed in. Then {hero.he} gave it some water
    and sat down to wait.
They put the seed in the ground. {hero} gave it [water|a lot of water] and looked at it [all afternoon|for a
    long time].

But nothing happened. "[Why does it not grow|Where is my plant]?" {hero.he} asked. "[Wait and see|You must
    wait]," said {hero.his} {adult}.
The next day, {hero} ran to look. [There was nothing there.|There was only dirt.] "[It is not growing|It is
    too slow]," {hero.he} said.
""",
    attempt="""
Then {hero} wanted to dig it up. "[Stop|No]!" said {hero.his} {adult}. "[A seed needs time|The seed is
    sleeping]. Give it water and sun, and wait."
"[Can I dig it up and look|May I look at it]?" asked {hero}. "No," said {hero.his} {adult}. "If you dig it
    up, it cannot grow."

So {hero} waited. {hero.He} gave the seed water every [day|morning]. [The sun was warm, and the rain came
    too.|One day, two days, three days went by.]
{hero} tried hard to wait. Every [day|morning], {hero.he} gave it some water and said hello.
""",
    solution="""
Then, one morning, {hero} saw something [small and green|green]. "[Look|Come and see], {adult.call}!"
    {hero.he} shouted. "It is growing!"
One morning, there was a tiny green leaf. {hero} [jumped up and down|danced around it]. "It is growing!"
    {hero.he} called.

It grew [bigger and bigger|up and up]. At last, it was {plant.a}. It was [beautiful|wonderful]!
Day by day, it grew a little more. Soon {hero} had {plant.a}, and it was [beautiful|lovely].
""",
    ending="""
"[Good things take time|You waited so well]," said {hero.his} {adult}. {hero} smiled at the {plant.noun}.
    {hero.He} was very proud.
{hero} learned that [some things are worth the wait|good things need time]. {hero.He} loved {hero.his}
    {plant}.
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
{who} made {craft.a} for {hero.his} {adult}. {hero.He} [worked on it all morning|used all {hero.his} best
    colors].
""",
    problem="""
{hero} [took it outside|went out of the door] to show it to {hero.his} {friend.intro}. Then the wind blew
    and took it away!
{hero} showed it to {hero.his} {friend.intro} in the yard. But a strong wind came. [Whoosh|Whoo]! It blew
    the {craft.noun} away.

"[Come back|Stop]!" {hero} shouted. But the {craft.noun} flew over the fence.
"My {craft.noun}!" cried {hero}. It went [up, up, and away|over the fence and down the hill].
""",
    attempt="""
Then it fell into [a puddle|some mud]. {hero} picked it up. It was [wet and dirty|all wet]. {hero.He}
    started to cry.
At last, it landed in [a puddle|the mud]. "[Oh no, it is ruined|Look at it now]," said {hero}, and {hero.he}
    was very sad.
""",
    solution="""
"[Do not cry|Do not be sad]," said {friend}. "[We can make a new one|I will help you make another one]."
    They went back inside.
{friend} put {friend.his} arm around {hero.him}. "Let's make another one [together|and make it even
    better]," {friend.he} said.

{hero} cut the paper, and {friend} [helped with the colors|held the glue]. They put [a big red heart|a
    yellow sun] on it. It was [even better|very nice]!
They worked [hard|side by side]. {friend} drew [a little sun|some flowers], and {hero} drew a big heart.

Then {hero} gave it to {hero.his} {adult}. "I made it for you, and {friend} helped," {hero.he} said.
When it was ready, {hero} ran to {hero.his} {adult}. "[Surprise|This is for you]!" {hero.he} said.
""",
    ending="""
"[I love it|It is wonderful]!" said {hero.his} {adult}, and {adult.he} hugged {hero}. It was a [very
    happy|good] day.
{hero.His} {adult} put it [on the wall|next to the bed] for everyone to see. {hero} was so proud.
"Thank you, {friend}," said {hero}. {hero.He} learned that you can always [start again|try again with a
    friend].
""",
)

PICNIC = plot(
    "rainy picnic",
    when="sun",
    place=PICNIC_PLACES,
    blanket=BLANKETS,
    trait="""
{hero.He} loved to eat outside. {hero.He} wanted to have a picnic.
{hero.He} had {blanket.a}. It was just right for a picnic.
""",
    scene="""
{who} wanted to have a picnic {place.at}. {hero.He} went there with {hero.his} {adult} and {hero.his}
    {friend.intro}.
{who} went to {place} for a picnic. {hero.His} {adult} and {hero.his} {friend.intro} came too.
""",
    problem="""
They put the {blanket} on the ground. They had [bread, cheese, and apples|cake, apples, and juice].
{hero} put down the {blanket}, and {friend} took out the [bread and apples|cake and juice]. It looked so good!

But then a big, dark cloud came. Drip, drop! It started to rain.
Then {hero} felt something wet on {hero.his} nose. Drip, drop! It was rain!
""",
    attempt="""
"We have to go home," said {hero}'s {adult}. They [put everything in the bag|took the food] and ran home.
They took all the food and ran to the house. [They were wet from head to toe.|Splash, splash went their feet.]
""",
    solution="""
At home, {friend} had an idea. "[Let's have a picnic inside|We can have a picnic on the floor]!" {friend.he}
    said.
At home, {hero} looked out of the window. "[I know|Wait]!" said {friend}. "We can have our picnic
    [inside|here]!"

They put [a dry sheet|a big rug] on the floor. {hero} made a tent out of [two chairs|two chairs and a sheet].
{hero}'s {adult} moved the table away. {hero} and {friend} made a [little|big] tent with chairs and a sheet.

They ate in the tent and [told stories|sang songs]. The rain went tap, tap, tap on the roof.
They sat in the tent and ate everything up. Outside it rained, but inside it was [warm|dry and warm].
""",
    ending="""
"This is the best picnic ever," said {hero}. {hero.His} {adult} and {friend} [smiled|laughed].
{hero} learned that [a rainy day can be a good day too|you can have fun in the rain and in the sun].
{hero} was happy. When something goes wrong, [a new idea can help|it helps to have a friend with a good idea].
""",
)

LOST_CHILD = plot(
    "lost in a crowd",
    when="any",
    place=CROWDED_PLACES,
    friends=("man",),
    siblings=False,
    trait="""
{hero.He} liked to look at new things. [Sometimes {hero.he} forgot to listen.|]
{hero.He} loved to go out with {hero.his} {adult}.
""",
    scene="""
{who} went to {place} with {hero.his} {adult}. There were so many people!
{who} wanted to see {place}. {hero.His} {adult} took {hero.him} there. "[Stay close to me|Hold my hand],"
    {adult.he} said.
""",
    problem="""
{hero} saw something [shiny|pretty] {spot}. {hero.He} let go of {hero.his} {adult}'s hand to look at it.
{hero} stopped {spot} to [look around|look at something pretty]. {hero.His} {adult} did not see {hero.him}
    stop.

When {hero} turned around, {hero.his} {adult} was not there. {hero.He} was [all alone|lost]!
Then {hero} looked up. {hero.He} could not see {hero.his} {adult} [anywhere|anymore]. {hero.He} was [so
    scared|very afraid].
""",
    attempt="""
{hero.He} looked {other_spot}, but {hero.his} {adult} was not there. [A tear ran down {hero.his}
    face.|{hero.He} wanted to cry.]
First, {hero} wanted to run. Then {hero.he} remembered what {hero.his} {adult} had said. "[If you are lost,
    stay in one place|If you are lost, ask for help]."

A kind {friend.kind} who worked there saw {hero.him}. "[Are you lost|Can I help you], little one?"
    {friend.he} asked.
{hero} saw a {friend.kind} who worked there. {hero.He} was brave and said, "[Please help me|Excuse me]. I
    lost my {adult}."
""",
    solution="""
"[Do not be afraid|You are safe with me]," said the {friend.kind}. "What is your name?" "My name is {hero},"
    said {hero}.
The {friend.kind} had a [nice|warm] smile. "[We will find your {adult}|Your {adult} must be near],"
    {friend.he} said. "What is your name?" {hero} told {friend.him}.

The {friend.kind} [called out very loud|rang a big bell]. Soon {hero}'s {adult} came running.
They waited together. Soon {hero} heard somebody call, "{hero}! {hero}!" It was {hero.his} {adult}!

"[There you are|I found you]!" said {hero.his} {adult}, and {adult.he} hugged {hero} [very tight|for a long
    time].
{hero} ran into {hero.his} {adult}'s arms. "I was so [worried|scared]!" {adult.he} said.
""",
    ending="""
"I will not let go of your hand again," said {hero}. They thanked the kind {friend.kind} and [went home|had
    some ice cream].
{hero} learned to stay close and to ask for help. {hero.He} held {hero.his} {adult}'s hand all the way home.
After that, {hero} always held {hero.his} {adult}'s hand in a [big|busy] place. [It felt good and safe.|]
""",
)

PLOTS = (BAKING, SEED, GIFT, PICNIC, LOST_CHILD)
