"""Plans about toys and playing outside: losing, breaking, sharing, reaching, learning."""

from framework.data.embedded.grammar import plot
from framework.data.embedded.vocabulary import (
    BREAKABLE_TOYS,
    FLYING_TOYS,
    HATS,
    OUTDOORS,
    PARENTS,
    PLAY_PLACES,
    PLAYGROUND,
    RIDES,
    SHARED_TOYS,
    SMALL_TOYS,
    TREE_PLACES,
    UMBRELLAS,
    Character,
)

LOST_TOY = plot(
    "lost toy",
    when="sun",
    toy=SMALL_TOYS,
    place=OUTDOORS,
    trait="""
{hero.He} had {toy.a}. [It was {hero.his} favorite thing.|{hero.He} loved it very much.|{hero.He} took it everywhere.]
{hero.He} loved {hero.his} {toy} [very much|more than anything|so much].
The best thing {hero.he} had was {toy.a}.
""",
    scene="""
{who} went to {place} with {hero.his} {adult} and {hero.his} {toy}. [They had a lot of fun.|It was a nice day to play.]
{who} wanted to play {place.at}. {hero.He} took {hero.his} {toy} and went there with {hero.his} {adult}.
{who} was playing {place.at} with {hero.his} {toy}. {hero.His} {adult} sat [nearby|on a bench] and read a book.
""",
    problem="""
{hero} [ran and ran|jumped up and down|looked at the ants] for a long time. [Then|After that], the {toy} was gone.
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

"[Maybe it is gone for good|I will never find it]," {hero} said. "[Keep looking|Do not give up]," said {hero.his} {adult}.
They looked [high and low|up and down], and they did not give up.
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
{who} was playing with {hero.his} {toy} [at home|in {hero.his} room|on the floor]. {hero.His} {friend.intro} came to play too.
{who} wanted to show {hero.his} {toy} to {hero.his} {friend.intro}. They sat down on the [rug|floor] to play.
""",
    problem="""
{friend} [pulled the {toy.noun} too hard|dropped the {toy.noun} on the floor|sat on the {toy.noun}]. [Crack|Snap]! The {toy.part} came off.
{friend} wanted to make the {toy.noun} go fast. [It hit the wall|It fell off the table]. [Crack|Snap]! The {toy.part} came off.

"[Oh no|Look]! You broke my {toy.noun}!" {hero} [cried|shouted]. {hero.He} was very [sad|angry].
{hero} looked at the broken {toy.noun} and began to cry.
""",
    attempt="""
{friend} felt very bad. "I am sorry, {hero}," {friend.he} said. "[I did not mean to break it|It was an accident]."
"I am so sorry, {hero}," said {friend}. "[I want to help you fix it.|Can we fix it?]"

{friend} tried to push the {toy.part} back on, but it [fell off again|did not stay].
They tried to fix it with [string|tape], but the {toy.part} [fell off again|did not stay on].

"[Let's|We can] ask your {adult}," said {friend}. {hero} [nodded|dried {hero.his} eyes]. It was a good idea.
Then {hero} had an idea. "My {adult} can fix [things|anything]!" {hero.he} said.
""",
    solution="""
{hero}'s {adult} looked at the {toy.noun}. "[I can fix this|We just need some glue]," {adult.he} said.
{hero}'s {adult} [got|found] some glue. "You two can help me," {adult.he} said.

{friend} held the {toy.noun} [still|with both hands], and {hero} put glue on the {toy.part}. [They had to wait for a long time.|They waited until it was dry.]
{hero} held the {toy.part} while {friend} helped with the glue. [Then they waited for it to dry.|They were very careful.]

Soon the {toy} was [as good as new|not broken anymore].
At last, the {toy} was fixed!
""",
    ending="""
"I am not [angry|mad] anymore," said {hero}. [{hero.He} gave {friend} a hug.|They played together until dinner.]
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
{who} was playing {place.at} with {toy.a}. {hero.His} {friend.intro} came [to play too|and sat down next to {hero.him}].
{who} wanted to play with {toy.a} {place.at}. {hero.His} {friend.intro} was there too.
{who} and {hero.his} {friend.intro} went to {place}. {hero} had {toy.a} with {hero.him}.
""",
    problem="""
"Can I [have a turn|play with the {toy.noun}]?" asked {friend}. "No! It is mine!" said {hero}.
{friend} wanted to play with the {toy.noun} too. But {hero} said, "[No, it is mine|No, go away]!"

{friend} [took|grabbed] one side of the {toy.noun}. {hero} [took|held] the other side. They pulled and pulled.
They both held the {toy.noun}. They pulled [it this way and that way|very hard]. "[Let go|Give it to me]!" they shouted.
""",
    attempt="""
Then [they both fell down|they fell over]. The {toy.noun} [fell in the mud|landed in a puddle]. [Splash|Plop]!
The {toy.noun} flew out of their hands and landed in [the mud|a puddle]. [Splash|Plop]!

Now nobody could play with it. {hero} [started to cry|was sad], and {friend} was sad too.
Now the {toy.noun} was all wet and dirty. {hero} and {friend} [looked at it|stopped shouting].

{hero}'s {adult} came over. "[What is wrong|Why are you so sad]?" {adult.he} asked. "[You can take turns|It is more fun when you share]."
"[Oh my|Oh dear]," said {hero.his} {adult}. "If you fight, nobody can have fun. [Can you take turns|Can you share]?"
""",
    solution="""
{hero} thought about it. "I am sorry, {friend}," {hero.he} said. "[You can go first|You can have the first turn]."
{hero} looked at {friend}. "I am sorry I was not nice," {hero.he} said. "Let's [play together|share it]."

They washed the {toy.noun} with water. [Soon it was clean again.|It looked as good as new.]
{friend} smiled. Together, they [cleaned|washed] the {toy.noun}.

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

But then it got stuck in a [tall|big] tree. "Oh no!" cried {hero}. ["It is too high!"|"How will we get it down?"]
Then it landed in a [tall|big] tree and did not come down. {hero} was [sad|upset].
""",
    attempt="""
{hero} jumped as high as {hero.he} could, but {hero.he} could not reach it.
First, {hero} tried to climb the tree. But {hero.he} [was too small|slipped down].
{hero} [shook the tree|pushed the tree], but the {toy.noun} did not [move|fall].

{friend} [found|got] a long stick. {friend.He} tried to [push|hit] the {toy.noun}, but the stick was too short.
{friend} threw [a little stick|an old shoe] at it, but {friend.he} missed.

"[What can we do|What do we do now]?" asked {hero}. "[Let's|We can] ask your {adult} for help," said {friend}.
"I have an idea," said {friend}. "Your {adult} can help us!"
""",
    solution="""
They ran to get {hero}'s {adult}, who had a [long|tall] ladder.
{hero}'s {adult} [was happy to help|came right away] and got a [long|tall] ladder.

{hero} and {friend} held the ladder. {hero}'s {adult} went up, up, up and got the {toy.noun}.
{hero}'s {adult} climbed up [very slowly|step by step] and took the {toy.noun} out of the tree.

"Here [it is|you go]!" said {hero.his} {adult}. [The {toy} was not broken at all.|{hero} clapped {hero.his} hands.]
"Thank you, {adult.call}!" said {hero}. [{hero.He} was so happy.|{hero.He} hugged the {toy.noun}.]
""",
    ending="""
After that, {hero} and {friend} played far away from the [tree|tall trees].
{hero} learned that it is [good|okay] to ask for help when [something is too hard|you need it].
{hero} let {friend} have the next turn. They [laughed and played|had fun] until the sun went down.
"Next time, we will play away from the trees," said {hero}, and they all laughed.
""",
)

HURT_KNEE = plot(
    "hurt knee",
    when="sun",
    ride=RIDES,
    place=PLAY_PLACES[:2],
    grown_ups=PARENTS,
    trait="""
{hero.He} got {ride.a} for {hero.his} birthday, but {hero.he} did not know how to ride it.
{hero.He} had {ride.a}. {hero.He} wanted to learn to ride it [very much|all by {hero.himself}].
""",
    scene="""
{who} wanted to ride {hero.his} {ride}. {hero.He} [took it to|went to] {place} with {hero.his} {adult}.
{who} was learning to ride {hero.his} {ride} {place.at}. {hero.His} {adult} [helped {hero.him}|held on to it].
""",
    problem="""
"[Go slow at first|Do not go too fast]," said {hero.his} {adult}. But {hero} wanted to go fast like the big kids.
{hero} wanted to go very fast. "[Be careful|Slow down]!" said {hero.his} {adult}.

The {ride.noun} [hit a rock|started to shake]. [Bump|Crash]! {hero} fell down and hurt {hero.his} knee.
{hero} went faster and faster. Then {hero.he} fell [off|down]. [Bump|Crash]! {hero.His} knee hurt a lot.

"[Ow|Ouch]! It hurts!" {hero} cried. "I do not want to ride anymore."
{hero} cried and cried. "[I cannot do it|It is too hard]," {hero.he} said.
""",
    attempt="""
{hero.His} {adult} ran to {hero.him}. {adult.He} washed the knee with [cold|clean] water.
{hero.His} {adult} gave {hero.him} a hug and looked at the knee. "It is only a little cut," {adult.he} said.

Then {adult.he} put a [bandage|bandage with a little star] on it. "[There, all better|You are so brave]," {adult.he} said.
{adult.He} put a bandage on it and gave it a kiss. [Soon it did not hurt so much.|{hero} stopped crying.]

"Everybody falls [at first|sometimes]," said {hero.his} {adult}. "[Do you want to try again?|You can try one more time.]"
"When I was little, I fell too," said {hero.his} {adult}. "I [tried again and again|did not give up]."
""",
    solution="""
{hero} [was still a little afraid|took a deep breath], but {hero.he} got back on the {ride.noun}.
"Okay, I will try again," said {hero}. {hero.He} got back on the {ride.noun}.

This time, {hero.he} went [slow and looked ahead|very slow]. {hero.He} did not fall!
First {hero.he} went slow, and then a little faster. [The {ride.noun} did not shake.|{hero.He} did not fall.]

"Look, {adult.call}! I am riding!" {hero.he} [shouted|called]. {hero.His} {adult} clapped and [clapped|smiled].
"I can do it! I can do it!" {hero.he} [shouted|said]. "[I knew you could|You did it]!" said {hero.his} {adult}.
""",
    ending="""
{hero} was very proud. {hero.He} learned that [it is okay to fall if you try again|we must not give up].
That day, {hero} rode {hero.his} {ride} [all the way home|around and around]. [{hero.He} felt very big.|{hero.He} was so proud.]
{hero} rode the {ride} every day after that, and {hero.he} was always careful.
""",
)

RAIN_BOOTS = plot(
    "stuck in the mud",
    when="rain",
    siblings=False,
    umbrella=UMBRELLAS,
    place=PLAY_PLACES,
    grown_ups=PARENTS,
    trait="""
{hero.He} loved the rain. {hero.He} had new [yellow|red|blue|green] boots.
{hero.He} liked to jump in puddles [more than anything|very much].
""",
    scene="""
{who} was playing {place.at} with {hero.his} {friend.intro}. [They jumped in all the puddles.|They did not mind the rain.]
{who} was playing {place.at} in {hero.his} big boots. {hero.His} {friend.intro} came to play too.
{who} wanted to go outside. {hero.He} put on {hero.his} boots and went to {place} with {hero.his} {friend.intro}.
""",
    problem="""
[Splash, splash, splash|Splish, splash]! They [laughed and jumped|had so much fun]. Then {hero} saw a very big puddle.
The rain went drip, drop, drip. [Then {hero} saw the biggest puddle of all.|{hero} ran to a big puddle.]

{hero} jumped right in. But the mud was deep, and {hero.his} [boots|feet] got stuck!
"Watch me!" said {hero}. {hero.He} jumped in with both feet. But then {hero.he} could not move. {hero.He} was stuck in the mud!
""",
    attempt="""
"Help! I [am stuck|cannot get out]!" {hero} [called|shouted]. {friend} came running.
"[Oh no|Oh dear], I am stuck!" said {hero}. "[I will help you|Do not worry]!" said {friend}.

{friend} took {hero.his} hand and pulled. {friend.He} pulled and pulled, but {hero} did not move.
{hero} tried to lift one foot. [It did not move.|It was too hard.] Then {friend} pulled {hero.his} arm, but that did not work.

Then {friend} had an idea. {friend.He} [got|picked up] {umbrella.a}. "[Hold on to this|Hold one end], and I will pull," {friend.he} said.
{friend} had {umbrella.a}. "[I have an idea|I know what to do]! Hold one end, and I will pull the other end," {friend.he} said.
""",
    solution="""
"One, two, three!" said {friend}. [Pop|Plop]! {hero}'s feet came out of the mud, but {hero.his} boots stayed in.
They counted to three and pulled. [Pop|Plop]! {hero} came out, but the boots stayed in the mud.

They both fell down on the wet grass. [They were covered with mud.|They looked like two little pigs.] They laughed and laughed.
{hero} looked at {hero.his} wet socks and started to laugh. {friend} laughed too.

Then they pulled the boots out and went back to {hero}'s house. {hero}'s {adult} gave them [warm milk|hot soup] and dry socks.
They got the boots out with a stick and ran to {hero}'s house. {hero}'s {adult} had warm towels for them.
""",
    ending="""
"That was the best rainy day," said {hero}. "[Thank you for helping me|You are a good friend], {friend}."
{hero} was happy to have [someone|a helper] like {friend}. Rainy days were fun with two.
{hero} and {friend} sat by the window and watched the rain. [They were warm and happy.|"Let's go again," said {hero}.]
""",
)

SNOWMAN = plot(
    "snowman",
    when="snow",
    extras=(Character("the snowman", "snowman", female=False),),
    hat=HATS,
    place=PLAY_PLACES,
    trait="""
{hero.He} loved [the snow|winter]. {hero.He} waited for it all year.
{hero.He} wanted to see the snow [very much|every winter].
""",
    scene="""
{who} wanted to make a snowman. {hero.He} put on {hero.his} warm coat and went to {place} with {hero.his} {friend.intro}.
{who} looked out of the window. Everything was white! {hero.He} and {hero.his} {friend.intro} went to {place} to make a snowman.
""",
    problem="""
They made a big ball, a small ball, and [a tiny ball|a very small ball]. They put them [one on top of the other|in a tall pile].
They rolled the snow [around and around|over the ground]. Soon they had a [tall|big], round snowman.

But the snowman had no [face|nose and no hat]. "He looks [sad|cold]," said {hero}.
"Something is missing," said {hero}. "Our snowman needs a [face|nose] and a hat."
""",
    attempt="""
{friend} [found|got] two little stones for the eyes. {hero} tried a small stick for the nose, but it [fell off|fell down].
{hero} found two black stones for the eyes and a stick for the mouth. {friend} tried a leaf for the nose, but the wind blew it away.

"[We need something better,|What can we use for the nose?]" said {friend}. {hero} ran home to ask {hero.his} {adult}.
"I know who can help us!" said {hero}. {hero.He} ran home to {hero.his} {adult}.
""",
    solution="""
{hero.His} {adult} smiled and gave {hero.him} [a long carrot|an orange carrot] and {hat.a}.
"[I have just the thing|Let me see]," said {hero.his} {adult}. {adult.He} gave {hero.him} a carrot and {hat.a}.

{hero} put the carrot in the middle of the face. {friend} put the {hat} on the snowman. [Now he had a big smile.|He looked so funny!]
{friend} put the carrot on for a nose. {hero} put the {hat} on the snowman. [Now he looked very happy.|He looked wonderful!]
""",
    ending="""
"[Hello|Good day], Mister Snowman!" said {hero}. {hero} and {friend} danced around him until [it got dark|they were cold].
{hero} and {friend} were proud. They [made it together|did a good job], and it was the best snowman [in town|of all].
That night, {hero} looked out of the window. The snowman [was still there|stood in the moon light]. "Good night," said {hero}.
""",
)

LEFT_OUT = plot(
    "new friend",
    when="sun",
    place=(PLAYGROUND, *PLAY_PLACES[:2]),
    siblings=False,
    toy=SHARED_TOYS,
    grown_ups=PARENTS,
    trait="""
{hero.He} was [new in town|very shy]. {hero.He} did not have any friends yet.
{hero.He} was shy. {hero.He} did not know how to make friends.
""",
    scene="""
{who} went to {place} with {hero.his} {adult}. {hero.He} saw [many|some] children, but {hero.he} did not know them.
{who} wanted to have a friend. {hero.He} went to {place} with {hero.his} {adult}, and there were many children there.
""",
    problem="""
{hero} stood next to {hero.his} {adult} and [looked at the ground|did not say a word]. "[What if they do not like me?|I am too shy,]" {hero.he} said.
"Go and [say hello|play]," said {hero.his} {adult}. But {hero} [shook {hero.his} head|was too shy].

{hero} sat down [alone|all by {hero.himself}]. {hero.He} watched the other children run and laugh.
So {hero} played alone in the sand. It was not [much|so much] fun.
""",
    attempt="""
Then {hero} saw a {friend.kind} who was alone too. {friend.He} had {toy.a}, but nobody to play with.
Then a {friend.kind} with {toy.a} sat down [nearby|under a tree]. {friend.He} looked [lonely|sad] too.

{hero} took a deep breath and walked over. "[Hello|Hi], I am {hero}," {hero.he} said [in a small voice|very softly].
{hero} felt [afraid|shy], but {hero.he} wanted to be kind. "[Hello|Hi], my name is {hero}," {hero.he} said.

The {friend.kind} looked up and smiled. "I am {friend}," {friend.he} said. "Do you want to play with my {toy.noun}?"
"[Hello|Hi], {hero}! I am {friend}," said the {friend.kind}. "[Will you play with me?|We can share my {toy.noun}.]"
""",
    solution="""
"Yes, please!" said {hero}. They played with the {toy} [for a long time|all afternoon].
{hero} smiled too. "[Yes|I would love to]!" {hero.he} said. Soon they were [laughing and running|playing together].

Then they went on the [swings|slide]. [Up and down they went.|They held hands.] {hero} was not shy anymore.
{friend} told a funny [story|joke], and {hero} laughed. {hero.He} forgot that {hero.he} was shy.
""",
    ending="""
When it was time to go, {hero} said, "[See you tomorrow|Let's play again], {friend}!" {hero.He} had a new friend.
"{adult.call}, I made a friend!" said {hero}. {hero.His} {adult} was very [proud|happy].
{hero} learned that [one little hello can make a friend|it is good to be brave and say hello]. {hero} and {friend} played together every day.
""",
)

PLOTS = (LOST_TOY, BROKEN_TOY, SHARING, STUCK_UP_HIGH, HURT_KNEE, RAIN_BOOTS, SNOWMAN, LEFT_OUT)
