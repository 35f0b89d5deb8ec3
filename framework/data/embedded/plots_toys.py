"""Plans about a toy: it is lost, breaks, is fought over, flies too high, or sails away."""

from framework.data.embedded.grammar import plot
from framework.data.embedded.vocabulary import (
    BOATS,
    BREAKABLE_TOYS,
    FLYING_TOYS,
    OUTDOORS,
    PLAY_PLACES,
    SHARED_TOYS,
    SMALL_TOYS,
    TREE_PLACES,
)

LOST_TOY = plot(
    "lost toy",
    when="sun",
    toy=SMALL_TOYS,
    place=OUTDOORS,
    trait="""
{hero.He} had {toy.a}. [It was {hero.his} favorite thing.|{hero.He} loved it very much.|{hero.He} took it
    everywhere.]
{hero.He} loved {hero.his} {toy} [very much|more than anything|so much].
The best thing {hero.he} had was {toy.a}.
""",
    scene="""
{who} went to {place} with {hero.his} {adult} and {hero.his} {toy}. [They had a lot of fun.|It was a nice
    day to play.]
{who} wanted to play {place.at}. {hero.He} took {hero.his} {toy} and went there with {hero.his} {adult}.
{who} was playing {place.at} with {hero.his} {toy}. {hero.His} {adult} sat [nearby|on a bench] and read a
    book.
""",
    problem="""
{hero} [ran and ran|jumped up and down|looked at the ants] for a long time. [Then|After that], the {toy} was
    gone.
But when it was time to go home, {hero} could not find the {toy}.
{hero} put the {toy} down to [look at a bug|watch a bird|pick a flower]. Then {hero.he} forgot where it was.

"[Oh no|Oh dear]! Where is my {toy.noun}?" {hero.he} [cried|asked|said]. [{hero.He} felt very sad.|]
"My {toy.noun} is [gone|lost]!" {hero} [cried|said]. [A big tear ran down {hero.his} face.|]
""",
    attempt="""
"Do not [worry|cry]," said {hero.his} {adult}. "[I will help you look|We will find it together]."
{hero.His} {adult} gave {hero.him} a hug. "Let's look [for it |]together," {adult.he} said.
"Where did you [play with it|see it] last?" asked {hero.his} {adult}. {hero} [tried to think|did not know].

First, they looked {other_spot}. [It was not there.|They found only [a rock|a leaf|a stick].|No {toy.noun}!]
{hero} looked {other_spot}, but the {toy.noun} was not there.
""",
    solution="""
Then {hero} saw something {spot}. It was [the|{hero.his}] {toy}!
Then {hero} looked {spot}. There it was! [It was a little dirty, but it was fine.|The {toy} was safe.]
At last, they looked {spot}. "[I see it|Look, there it is]!" {hero} shouted. It was the {toy}!

{hero} [picked it up and hugged it|held it close|jumped up and down with joy].
"Thank you for helping me," {hero} said to {hero.his} {adult}.
""",
    ending="""
From that day on, {hero} always [took good care of|kept an eye on] {hero.his} {toy}.
{hero} [held it tight|did not let it go] all the way home. {hero.He} was [very|so] happy.
"Next time, I will [be more careful|put it in my bag]," said {hero}. {hero.His} {adult} smiled.
That night, {hero} slept with the {toy} next to {hero.his} bed. [It was safe.|{hero.He} was happy.]
""",
)

BROKEN_TOY = plot(
    "broken toy",
    when="indoor",
    siblings=False,
    toy=BREAKABLE_TOYS,
    trait="""
{hero.He} had {toy.a}. [It was {hero.his} favorite toy.|{hero.He} played with it every day.]
{hero.He} loved to play with {hero.his} {toy}.
""",
    scene="""
{who} was playing with {hero.his} {toy} [at home|in {hero.his} room|on the floor]. {hero.His} {friend.intro}
    came to play too.
{who} wanted to show {hero.his} {toy} to {hero.his} {friend.intro}. They sat down on the [rug|floor] to play.
""",
    problem="""
{friend} [pulled the {toy.noun} too hard|dropped the {toy.noun} on the floor|sat on the {toy.noun}].
    [Crack|Snap]! The {toy.part} came off.
{friend} wanted to make the {toy.noun} go fast. [It hit the wall|It fell off the table]. [Crack|Snap]! The
    {toy.part} came off.

"[Oh no|Look]! You broke my {toy.noun}!" {hero} [cried|shouted]. {hero.He} was very [sad|angry].
{hero} looked at the broken {toy.noun} and began to cry.
""",
    attempt="""
{friend} felt very bad. "I am sorry, {hero}," {friend.he} said. "[I did not mean to break it|It was an
    accident]."
"I am so sorry, {hero}," said {friend}. "[I want to help you fix it.|Can we fix it?]"

"[Let's|We can] ask your {adult}," said {friend}. {hero} [nodded|dried {hero.his} eyes]. It was a good idea.
Then {hero} had an idea. "My {adult} can fix [things|anything]!" {hero.he} said.
""",
    solution="""
{hero}'s {adult} looked at the {toy.noun}. "[I can fix this|We just need some glue]," {adult.he} said.
{hero}'s {adult} [got|found] some glue. "You two can help me," {adult.he} said.

Soon the {toy} was [as good as new|not broken anymore].
At last, the {toy} was fixed!
""",
    ending="""
"I am not [angry|mad] anymore," said {hero}. [{hero.He} gave {friend} a hug.|They played together until
    dinner.]
{hero} gave {friend} a big hug. "[You are more important than a toy|Thank you for helping]," {hero.he} said.
{hero} and {friend} played again, and this time they were very [careful|gentle].
{hero} learned that [when something breaks, we can fix it together|it is good to say sorry and to forgive].
""",
)

SHARING = plot(
    "sharing",
    when="sun",
    toy=SHARED_TOYS,
    place=PLAY_PLACES,
    trait="""
{hero.He} liked to play [outside|in the sun]. {hero.He} did not like to share.
{hero.He} was a [nice|good] child, but {hero.he} did not like to share {hero.his} toys.
""",
    scene="""
{who} was playing {place.at} with {toy.a}. {hero.His} {friend.intro} came [to play too|and sat down next to
    {hero.him}].
{who} wanted to play with {toy.a} {place.at}. {hero.His} {friend.intro} was there too.
{who} and {hero.his} {friend.intro} went to {place}. {hero} had {toy.a} with {hero.him}.
""",
    problem="""
"Can I [have a turn|play with the {toy.noun}]?" asked {friend}. "No! It is mine!" said {hero}.
{friend} wanted to play with the {toy.noun} too. But {hero} said, "[No, it is mine|No, go away]!"

{friend} [took|grabbed] one side of the {toy.noun}. {hero} [took|held] the other side. They pulled and pulled.
They both held the {toy.noun}. They pulled [it this way and that way|very hard]. "[Let go|Give it to me]!"
    they shouted.
""",
    attempt="""
Then [they both fell down|they fell over]. The {toy.noun} [fell in the mud|landed in a puddle]. [Splash|Plop]!
The {toy.noun} flew out of their hands and landed in [the mud|a puddle]. [Splash|Plop]!

{hero}'s {adult} came over. "[What is wrong|Why are you so sad]?" {adult.he} asked. "[You can take turns|It
    is more fun when you share]."
"[Oh my|Oh dear]," said {hero}'s {adult}. "If you fight, nobody can have fun. [Can you take turns|Can you
    share]?"
""",
    solution="""
{hero} thought about it. "I am sorry, {friend}," {hero.he} said. "[You can go first|You can have the first
    turn]."
{hero} looked at {friend}. "I am sorry I was not nice," {hero.he} said. "Let's [play together|share it]."

First {friend} played with it, and then {hero} had a turn. They laughed and laughed.
They took turns [all afternoon|until it was time to go home]. [It was so much fun!|Nobody was sad anymore.]
""",
    ending="""
{hero} learned that [sharing is more fun than fighting|it is good to share|toys are more fun with a friend].
"[Sharing is fun|I like to share with you]," said {hero}. {friend} [smiled|gave {hero.him} a big hug].
After that day, {hero} [always shared with|liked to share {hero.his} toys with] {friend}.
""",
)

STUCK_UP_HIGH = plot(
    "stuck up high",
    when="sun",
    siblings=False,
    toy=FLYING_TOYS,
    place=TREE_PLACES,
    trait="""
{hero.He} had {toy.a}. [It was a gift from {hero.his} {adult}.|{hero.He} loved to play with it.]
{hero.He} loved to run and play [outside|in the wind] with {hero.his} {toy}.
""",
    scene="""
{who} was {toy.using} {hero.his} {toy} {place.at}. {hero.His} {friend.intro} [watched|was there too].
{who} wanted to play with {hero.his} {toy}. {hero.He} went to {place} with {hero.his} {friend.intro}.
{who} took {hero.his} {toy} to {place}. {hero.His} {friend.intro} came too.
""",
    problem="""
The {toy.noun} {toy.moves}. "[Look how high it is|Wow, look at that]!" said {hero}.
The wind was strong, and the {toy.noun} {toy.moves}. "[Wow|Look]!" said {friend}.

But then it got stuck in a [tall|big] tree. "Oh no!" cried {hero}. ["It is too high!"|"How will we get it
    down?"]
Then it landed in a [tall|big] tree and did not come down. {hero} was [sad|upset].
""",
    attempt="""
{hero} jumped as high as {hero.he} could, but {hero.he} could not reach it.
First, {hero} tried to climb the tree. But {hero.he} [was too small|slipped down].
{hero} [shook the tree|pushed the tree], but the {toy.noun} did not [move|fall].

"[What can we do|What do we do now]?" asked {hero}. "[Let's|We can] ask your {adult} for help," said {friend}.
"I have an idea," said {friend}. "Your {adult} can help us!"
""",
    solution="""
They ran to get {hero}'s {adult}, who had a [long|tall] ladder.
{hero}'s {adult} [was happy to help|came right away] and got a [long|tall] ladder.

{hero} and {friend} held the ladder. {hero}'s {adult} went up, up, up and got the {toy.noun}.
{hero}'s {adult} climbed up [very slowly|step by step] and took the {toy.noun} out of the tree.

"Here [it is|you go]!" said {hero.his} {adult}. [The {toy} was not broken at all.|{hero} clapped {hero.his}
    hands.]
"Thank you, {adult.call}!" said {hero}. [{hero.He} was so happy.|{hero.He} hugged the {toy.noun}.]
""",
    ending="""
After that, {hero} and {friend} played far away from the [tree|tall trees].
{hero} learned that it is [good|okay] to ask for help when [something is too hard|you need it].
{hero} let {friend} have the next turn. They [laughed and played|had fun] until the sun went down.
"Next time, we will play away from the trees," said {hero}, and they all laughed.
""",
)

RAIN_BOAT = plot(
    "boat in the rain",
    when="rain",
    boat=BOATS,
    place=PLAY_PLACES,
    trait="""
{hero.He} had {boat.a}. [{hero.He} loved to see it go on the water.|It was {hero.his} favorite toy.]
{hero.He} loved boats and water. The best thing {hero.he} had was {boat.a}.
""",
    scene="""
{who} was playing {place.at} with {hero.his} {boat}. {hero.His} {friend.intro} came to look.
{who} was playing {place.at} with {hero.his} {friend.intro}. They had {boat.a} with them.
{who} wanted to see {hero.his} {boat} go on the water. {hero.He} went to {place} with {hero.his}
    {friend.intro}.
""",
    problem="""
The rain made a little river in the grass. {hero} put the {boat} on it. [Off it went!|It went very fast!]
There was a [long|big] puddle in the grass. {hero} put the {boat} in the water, and the wind [pushed it
    along|made it go].

But the boat went faster and faster. "[Stop, boat|Come back]!" shouted {hero}. It did not stop.
"[Look at it go|It is so fast]!" said {friend}. But then it went too far, and {hero} could not [catch|reach]
    it.
""",
    attempt="""
{hero} ran after it in {hero.his} big boots. [Splash, splash, splash!|The mud made {hero.him} slow.]
    {hero.He} slipped and fell down.
{hero} jumped to catch it, but {hero.he} [missed.|fell into the water. Splash!|slipped in the mud.]

"It will be lost!" cried {hero}. "[Not yet|Do not give up]," said {friend}. "[We need to make a wall|Help me
    make a wall]!"
"My boat is going away," said {hero}, and {hero.he} [almost cried|was very sad]. "Quick, let's make a wall
    in front of it!" said {friend}.
""",
    solution="""
They ran ahead of the boat and put [mud and stones|sticks and mud] in the water. The boat came closer and
    closer.
They ran very fast and got in front of it. They made a wall out of [stones|sticks and stones].

[Bump|Plop]! The boat hit the little wall and stopped. "We got it!" {hero} shouted.
[Bump|Plop]! The boat stopped right at the wall. {hero} picked it up and held it [close|high in the air].
""",
    ending="""
"You had the best idea, {friend}," said {hero}. They were wet and dirty, but they were very happy.
{hero} let {friend} play with the {boat} too. It was a [wonderful|very good] rainy day.
{hero} learned that two friends can [fix a problem better than one|do what one cannot]. Then the sun came
    out, and {hero} laughed.
""",
    siblings=False,
)

PLOTS = (LOST_TOY, BROKEN_TOY, SHARING, STUCK_UP_HIGH, RAIN_BOAT)
