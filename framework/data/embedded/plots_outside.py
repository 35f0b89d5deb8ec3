"""Plans about playing outside: learning to ride, mud, snow, sand, and a first friend."""

from framework.data.embedded.grammar import plot
from framework.data.embedded.vocabulary import (
    GARDEN,
    HATS,
    PARENTS,
    PARK,
    PLAY_PLACES,
    PLAYGROUND,
    RIDES,
    SHARED_TOYS,
    UMBRELLAS,
    Character,
)

HURT_KNEE = plot(
    "hurt knee",
    when="sun",
    ride=RIDES,
    place=(GARDEN, PARK),
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
"[Go slow at first|Do not go too fast]," said {hero.his} {adult}. But {hero} wanted to go fast like the big
    kids.
{hero} wanted to go very fast. "[Be careful|Slow down]!" said {hero.his} {adult}.

The {ride.noun} [hit a rock|started to shake]. [Bump|Crash]! {hero} fell down and hurt {hero.his} knee.
{hero} went faster and faster. Then {hero.he} fell [off|down]. [Bump|Crash]! {hero.His} knee hurt a lot.

"[Ow|Ouch]! It hurts!" {hero} cried. "I do not want to ride anymore."
{hero} cried and cried. "[I cannot do it|It is too hard]," {hero.he} said.
""",
    attempt="""
{hero.His} {adult} ran to {hero.him}. {adult.He} washed the knee with [cold|clean] water.
{hero.His} {adult} gave {hero.him} a hug and looked at the knee. "It is only a little cut," {adult.he} said.

Then {adult.he} put a [bandage|bandage with a little star] on it. "[There, all better|You are so brave],"
    {adult.he} said.
{adult.He} put a bandage on it and gave it a kiss. [Soon it did not hurt so much.|{hero} stopped crying.]
""",
    solution="""
{hero} [was still a little afraid, but|took a deep breath, and] {hero.he} got back on the {ride.noun}.
"Okay, I will try again," said {hero}. {hero.He} got back on the {ride.noun}.

This time, {hero.he} went [slow and looked ahead|very slow]. {hero.He} did not fall!
First {hero.he} went slow, and then a little faster. [The {ride.noun} did not shake.|{hero.He} did not fall.]

"Look, {adult.call}! I am riding!" {hero.he} [shouted|called]. {hero.His} {adult} clapped and
    [clapped|smiled].
"I can do it! I can do it!" {hero.he} [shouted|said]. "[I knew you could|You did it]!" said {hero.his}
    {adult}.
""",
    ending="""
{hero} was very proud. {hero.He} learned that [it is okay to fall if you try again|we must not give up].
That day, {hero} rode {hero.his} {ride} [all the way home|around and around]. [{hero.He} felt very
    big.|{hero.He} was so proud.]
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
{who} was playing {place.at} with {hero.his} {friend.intro}. [They jumped in all the puddles.|They did not
    mind the rain.]
{who} was playing {place.at} in {hero.his} big boots. {hero.His} {friend.intro} came to play too.
{who} wanted to go outside. {hero.He} put on {hero.his} boots and went to {place} with {hero.his}
    {friend.intro}.
""",
    problem="""
[Splash, splash, splash|Splish, splash]! They [laughed and jumped|had so much fun]. Then {hero} saw a very
    big puddle.
The rain went drip, drop, drip. [Then {hero} saw the biggest puddle of all.|{hero} ran to a big puddle.]

{hero} jumped right in. But the mud was deep, and {hero.his} [boots|feet] got stuck!
"Watch me!" said {hero}. {hero.He} jumped in with both feet. But then {hero.he} could not move. {hero.He}
    was stuck in the mud!
""",
    attempt="""
"Help! I [am stuck|cannot get out]!" {hero} [called|shouted]. {friend} came running.
"[Oh no|Oh dear], I am stuck!" said {hero}. "[I will help you|Do not worry]!" said {friend}.

Then {friend} had an idea. {friend.He} closed {friend.his} {umbrella}. "[Hold on to this|Hold one end], and
    I will pull," {friend.he} said.
Then {friend} took {friend.his} {umbrella}. "[I have an idea|I know what to do]! Hold one end, and I will
    pull the other end," {friend.he} said.
""",
    solution="""
"One, two, three!" said {friend}. [Pop|Plop]! {hero}'s feet came out of the mud, but {hero.his} boots stayed
    in.
They counted to three and pulled. [Pop|Plop]! {hero} came out, but the boots stayed in the mud.

They both fell down on the wet grass. [They were covered with mud.|They looked like two little pigs.] They
    laughed and laughed.
{hero} looked at {hero.his} wet socks and started to laugh. {friend} laughed too.
""",
    ending="""
"That was the best rainy day," said {hero}. "[Thank you for helping me|You are a good friend], {friend}."
{hero} was happy to have [someone|a helper] like {friend}. Rainy days were fun with two.
{hero} and {friend} sat by the window and watched the rain. [They were warm and happy.|"Let's go again,"
    said {hero}.]
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
{who} wanted to make a snowman. {hero.He} put on {hero.his} warm coat and went to {place} with {hero.his}
    {friend.intro}.
{who} looked out of the window. Everything was white! {hero.He} and {hero.his} {friend.intro} went to
    {place} to make a snowman.
""",
    problem="""
They made a big ball, a small ball, and [a tiny ball|a very small ball]. They put them [one on top of the
    other|in a tall pile].
They rolled the snow [around and around|over the ground]. Soon they had a [tall|big], round snowman.

But the snowman had no [face|nose and no hat]. "He looks [sad|cold]," said {hero}.
"Something is missing," said {hero}. "Our snowman needs a [face|nose] and a hat."
""",
    attempt="""
"[We need something better,|What can we use for the nose?]" said {friend}. {hero} ran home to ask {hero.his}
    {adult}.
"I know who can help us!" said {hero}. {hero.He} ran home to {hero.his} {adult}.
""",
    solution="""
{hero.His} {adult} smiled and gave {hero.him} [a long carrot|an orange carrot] and {hat.a}.
"[I have just the thing|Let me see]," said {hero.his} {adult}. {adult.He} gave {hero.him} a carrot and
    {hat.a}.

{hero} put the carrot in the middle of the face. {friend} put the {hat} on the snowman. [Now he had a big
    smile.|He looked so funny!]
{friend} put the carrot on for a nose. {hero} put the {hat} on the snowman. [Now he looked very happy.|He
    looked wonderful!]
""",
    ending="""
"[Hello|Good day], Mister Snowman!" said {hero}. {hero} and {friend} danced around him until [it got
    dark|they were cold].
{hero} and {friend} were proud. They [made it together|did a good job], and it was the best snowman [in
    town|of all].
That night, {hero} looked out of the window. The snowman [was still there|stood in the moon light]. "Good
    night," said {hero}.
""",
)

SAND_CASTLE = plot(
    "sand castle",
    when="sun",
    trait="""
{hero.He} loved [the beach|the sea]. {hero.He} loved to play in the sand.
{hero.He} liked to [build|make] things. {hero.He} could play in the sand all day.
""",
    scene="""
{who} went to the beach with {hero.his} {adult} and {hero.his} {friend.intro}. The sea was [blue|big and
    blue].
{who} wanted to build a big sand castle. {hero.He} went to the beach with {hero.his} {adult} and {hero.his}
    {friend.intro}.
""",
    problem="""
{hero} and {friend} [filled a bucket with sand|made a big pile of sand] and built a castle close to the
    water. It was [tall|big], with a door and a [flag|window].
They built a castle next to the sea. {hero} made the walls, and {friend} [put shells on them|made a tall
    tower].

Then a big wave came. [Whoosh|Splash]! When the water went back, the castle was gone.
But [whoosh|splash], a wave came and [went over|broke] the castle. There was only wet sand.
""",
    attempt="""
"Our castle!" cried {hero}. {hero.He} was so [angry|upset] that {hero.he} [kicked the sand|threw the shovel
    down].
"[Bad sea|Bad wave]!" shouted {hero}. "[You broke our castle|Go away]!" But the sea did not listen.
""",
    solution="""
"Look at the sand," said {hero}'s {adult}. "[Where is it wet, and where is it dry|How far does the water
    go]?" {hero} looked and thought.
{hero.His} {adult} sat down next to {hero.him}. "[The sea will not move|The waves will not stop],"
    {adult.he} said. "But can you move?"

"[I know|I see]! We must build it [up there|far from the water]!" said {hero}. They took the buckets and
    went up the beach.
Then {hero} [smiled|jumped up]. "The waves do not come up there!" {hero.he} said. They went to a
    [better|good] place, far from the water.

They worked together [for a long time|all afternoon]. The new castle was even [bigger|better] than the first
    one. The waves came, but they could not reach it.
{friend} got the sand, and {hero} built the walls. [Whoosh|Splash]! A wave came, but it did not touch the
    castle.
""",
    ending="""
"[Hooray|We did it]!" they shouted. {hero} put a [white shell|little stick with a leaf] on top. It was the
    best castle of all.
{hero} learned that when one way does not work, you can [find another way|try something new].
When the sun went down, the castle was still there. {hero} and {friend} [waved goodbye to it|were very proud
    of it].
""",
)

LEFT_OUT = plot(
    "new friend",
    when="sun",
    place=(PLAYGROUND, PARK),
    siblings=False,
    toy=SHARED_TOYS,
    grown_ups=PARENTS,
    trait="""
{hero.He} was [new in town|very shy]. {hero.He} did not have any friends yet.
{hero.He} was shy. {hero.He} did not know how to make friends.
""",
    scene="""
{who} went to {place} with {hero.his} {adult}. {hero.He} saw [many|some] children, but {hero.he} did not
    know them.
{who} wanted to have a friend. {hero.He} went to {place} with {hero.his} {adult}, and there were many
    children there.
""",
    problem="""
{hero} stood next to {hero.his} {adult} and [looked at the ground|did not say a word]. "[What if they do not
    like me?|I am too shy,]" {hero.he} said.
"Go and [say hello|play]," said {hero.his} {adult}. But {hero} [shook {hero.his} head|was too shy].

{hero} sat down [alone|all by {hero.himself}]. {hero.He} watched the other children run and laugh.
So {hero} played alone in the sand. It was not [much|so much] fun.
""",
    attempt="""
Then {hero} saw a {friend.kind} who was alone too. {friend.He} had {toy.a}, but nobody to play with.
Then a {friend.kind} with {toy.a} sat down [nearby|under a tree]. {friend.He} looked [lonely|sad] too.

{hero} took a deep breath and walked over. "[Hello|Hi], I am {hero}," {hero.he} said [in a small voice|very
    softly].
{hero} felt [afraid|shy], but {hero.he} wanted to be kind. "[Hello|Hi], my name is {hero}," {hero.he} said.

The {friend.kind} looked up and smiled. "I am {friend}," {friend.he} said. "Do you want to play with my
    {toy.noun}?"
"[Hello|Hi], {hero}! I am {friend}," said the {friend.kind}. "[Will you play with me?|We can share my
    {toy.noun}.]"
""",
    solution="""
"Yes, please!" said {hero}. They played with the {toy} [for a long time|all afternoon].
{hero} smiled too. "[Yes|I would love to]!" {hero.he} said. Soon they were [laughing and running|playing
    together].
""",
    ending="""
When it was time to go, {hero} said, "[See you tomorrow|Let's play again], {friend}!" {hero.He} had a new
    friend.
"{adult.call}, I made a friend!" said {hero}. {hero.His} {adult} was very [proud|happy].
{hero} learned that [one little hello can make a friend|it is good to be brave and say hello]. {hero} and
    {friend} played together every day.
""",
)

PLOTS = (HURT_KNEE, RAIN_BOOTS, SNOWMAN, SAND_CASTLE, LEFT_OUT)
