"""Plans about going somewhere or meeting someone: crowds, picnics, hungry and hurt animals, a rocket made of a box."""

from framework.data.embedded.grammar import plot
from framework.data.embedded.vocabulary import (
    BIRDS,
    BLANKETS,
    BOATS,
    CROWDED_PLACES,
    LOST_ANIMALS,
    PARENTS,
    PICNIC_PLACES,
    PLAY_PLACES,
    STRAY_PLACES,
    TREE_PLACES,
    UMBRELLAS,
    Character,
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
{who} wanted to see {place}. {hero.His} {adult} took {hero.him} there. "[Stay close to me|Hold my hand]," {adult.he} said.
""",
    problem="""
{hero} saw something [shiny|pretty] {spot}. {hero.He} let go of {hero.his} {adult}'s hand to look at it.
{hero} stopped {spot} to [look around|look at something pretty]. {hero.His} {adult} did not see {hero.him} stop.

When {hero} turned around, {hero.his} {adult} was not there. {hero.He} was [all alone|lost]!
Then {hero} looked up. {hero.He} could not see {hero.his} {adult} [anywhere|anymore]. {hero.He} was [so scared|very afraid].
""",
    attempt="""
"{adult.call}! Where are you?" {hero} called. But it was too loud, and nobody [heard|answered].
{hero} called and called, but there was [so much noise|no answer].

{hero.He} looked {other_spot}, but {hero.his} {adult} was not there. [A tear ran down {hero.his} face.|{hero.He} wanted to cry.]
First, {hero} wanted to run. Then {hero.he} remembered what {hero.his} {adult} had said. "[If you are lost, stay in one place|If you are lost, ask for help]."

A kind {friend.kind} who worked there saw {hero.him}. "[Are you lost|Can I help you], little one?" {friend.he} asked.
{hero} saw a {friend.kind} who worked there. {hero.He} was brave and said, "[Please help me|Excuse me]. I lost my {adult}."
""",
    solution="""
"[Do not be afraid|You are safe with me]," said the {friend.kind}. "What is your name?" "My name is {hero}," said {hero}.
The {friend.kind} had a [nice|warm] smile. "[We will find your {adult}|Your {adult} must be near]," {friend.he} said. "What is your name?" {hero} told {friend.him}.

The {friend.kind} [called out very loud|rang a big bell]. Soon {hero}'s {adult} came running.
They waited together. Soon {hero} heard somebody call, "{hero}! {hero}!" It was {hero.his} {adult}!

"[There you are|I found you]!" said {hero.his} {adult}, and {adult.he} hugged {hero} [very tight|for a long time].
{hero} ran into {hero.his} {adult}'s arms. "I was so [worried|scared]!" {adult.he} said.
""",
    ending="""
"I will not let go of your hand again," said {hero}. They thanked the kind {friend.kind} and [went home|had some ice cream].
{hero} learned to stay close and to ask for help. {hero.He} held {hero.his} {adult}'s hand all the way home.
After that, {hero} always held {hero.his} {adult}'s hand in a [big|busy] place. [It felt good and safe.|]
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
{who} wanted to have a picnic {place.at}. {hero.He} went there with {hero.his} {adult} and {hero.his} {friend.intro}.
{who} went to {place} for a picnic. {hero.His} {adult} and {hero.his} {friend.intro} came too.
""",
    problem="""
They put the {blanket} on the ground. They had [bread, cheese, and apples|cake, apples, and juice].
{hero} put down the {blanket}, and {friend} took out the [bread and apples|cake and juice]. It looked so good!

But then a big, dark cloud came. Drip, drop! It started to rain.
Then {hero} felt something wet on {hero.his} nose. Drip, drop! It was rain!
""",
    attempt="""
First, they sat under a [small tree|bush]. But the rain came through the leaves, and they got wet.
First, they held the {blanket} over their heads. But the wind [blew it away|was too strong], and they had to run after it.

"Our picnic is [over|ruined]," said {hero}. {hero.He} was [very sad|almost crying].
"I wanted to have a picnic so much," said {hero} with [a sad face|tears in {hero.his} eyes]. "[It is not fair|Now we cannot]."

"We have to go home," said {hero}'s {adult}. They [put everything in the bag|took the food] and ran home.
They took all the food and ran to the house. [They were wet from head to toe.|Splash, splash went their feet.]
""",
    solution="""
At home, {friend} had an idea. "[Let's have a picnic inside|We can have a picnic on the floor]!" {friend.he} said.
At home, {hero} looked out of the window. "[I know|Wait]!" said {friend}. "We can have our picnic [inside|here]!"

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

HUNGRY_ANIMAL = plot(
    "hungry animal",
    when="any",
    animal=LOST_ANIMALS,
    place=STRAY_PLACES,
    grown_ups=PARENTS,
    trait="""
{hero.He} loved animals. {hero.He} wanted to have a pet.
{hero.He} was kind to every animal, big or small.
""",
    scene="""
{who} was playing {place.at}. {hero.His} {adult} was there too. Then {hero.he} heard a [small|soft] sound. "{animal.sound}! {animal.sound}!"
{who} went for a walk with {hero.his} {adult}. When they came to {place}, {hero.he} heard something. "{animal.sound}! {animal.sound}!"
{who} wanted to go to {place} with {hero.his} {adult}. When they got there, they heard a sound. "{animal.sound}! {animal.sound}!"
""",
    problem="""
{hero} looked {spot}. There was {animal.a}! It was [alone and thin|all alone].
{hero} [went to look|looked] {spot} and found {animal.a}. It was [very thin|shaking].

"Look, {adult.call}! [It is all alone|It looks so sad]," said {hero}. "[I think it is hungry|It must be hungry]."
"[Poor little {animal.noun}|Oh, you poor {animal.noun}]! Are you hungry?" asked {hero}. The {animal.noun} looked up with big eyes.
""",
    attempt="""
{hero} gave it [a piece of candy|some of {hero.his} candy], but the {animal.noun} did not eat it. "[What does it want|What does it eat]?" {hero.he} asked.
First, {hero} gave it some [grass|leaves], but it did not eat. "[That is not what it wants|It wants something else]," said {hero.his} {adult}.

"[I think it wants|It needs] {animal.food}," said {hero.his} {adult}. They went to get some.
"Let's try {animal.food}," said {hero.his} {adult}. "[I have some in my bag|I will get some]."
""",
    solution="""
{hero} gave it some {animal.food}. The {animal.noun} ate [and ate until it was full|it all up]. "{animal.sound}!" it said.
The {animal.noun} saw the {animal.food} and ate it [very fast|right away]. Then it [sat on {hero}'s foot|came close to {hero}].

"Can we keep it?" asked {hero}. "[First|But first], we must find out if it has a home," said {hero.his} {adult}.
"It has no home," said {hero}. "Can we keep it, please?" "[Let's ask around first|We have to ask first]," said {hero.his} {adult}.

They asked everybody, but [nobody knew the {animal.noun}|nobody was looking for it]. So {hero} took it home.
They asked [all the people who lived nearby|every person they met]. It did not have a home. "Then it can live with us!" said {hero.his} {adult}.
""",
    ending="""
{hero} made a [soft|warm] bed for it in a box. The {animal.noun} was not hungry or alone anymore, and {hero} had a new friend.
{hero} named it [Lucky|Button|Cookie|Star]. {hero} and the {animal.noun} played together every day.
{hero} was so happy. {hero.He} fed the {animal.noun} every day, and it [grew big and strong|always came when {hero.he} called].
""",
)

HURT_BIRD = plot(
    "hurt bird",
    when="any",
    siblings=False,
    bird=BIRDS,
    place=TREE_PLACES,
    trait="""
{hero.He} liked to watch the birds [in the sky|in the trees].
{hero.He} loved birds. {hero.He} knew all their songs.
""",
    scene="""
{who} was playing {place.at} with {hero.his} {friend.intro}. They saw {bird.a} on the ground.
{who} wanted to see the birds. {hero.He} went to {place} with {hero.his} {friend.intro}, and they saw {bird.a} under a tree.
""",
    problem="""
The bird tried to fly, but it could not. "[Its wing is hurt|Look at its wing]," said {hero}. "[Poor bird|We have to help it]."
The bird did not fly away. It had a hurt wing. "[Poor little bird|It cannot fly]!" said {hero}.

{friend} wanted to pick it up. "[Wait|Be careful]," said {hero}. "[It is afraid|We must be gentle]."
The bird was afraid and [tried to hop away|made a sad sound]. "[Do not be scared|We want to help you]," said {hero}.
""",
    attempt="""
First, {friend} gave it a [leaf|flower], but the bird [did not eat|closed its eyes].
First, they looked for its nest, but the nest was [too high|too far up in the tree].

"My {adult} knows what to do," said {hero}. {hero.He} [ran home|went to get {adult.him}], and {friend} stayed with the bird.
"[Stay here|Wait here] with the bird," said {hero}. "I will get my {adult}." And {hero.he} ran [very fast|home].

{hero}'s {adult} came with a box. {adult.He} put the bird in the box [very gently|with soft hands]. "It needs rest, water, and food," {adult.he} said.
{hero}'s {adult} looked at the wing. "It will get better [soon|with time]," {adult.he} said, and {adult.he} put the bird in a [soft|warm] box.
""",
    solution="""
Every day, {hero} gave the bird [water and seeds|seeds to eat]. {friend} came to see it too. [They were very quiet.|They sang to it.]
{hero} and {friend} took care of the bird. They gave it seeds and water [every day|every morning].

After a week, the bird [began to sing|moved its wing]. "It is better now!" said {friend}. They took the box outside.
Then, one morning, the bird began to [hop|sing]. Its wing was better. They took it [outside|back to the tree].

The bird [looked at {hero}|sang a little song]. Then it opened its wings and flew up into the sky.
{hero} opened the box. The bird flew [up, up, up|around their heads] and into a tree. "Goodbye!" said {friend}.
""",
    ending="""
{hero} was a little sad, but {hero.he} was happy too. The bird was [free|well] again.
The next day, the bird came back and sang at {hero}'s window. [It was a thank you song.|{hero} waved and smiled.]
"[A bird needs the sky|It is good to help]," said {hero}. {hero} and {friend} waved until they could not see the bird anymore.
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
{who} found a big box at home. "[This is my rocket|This can be a rocket]!" {hero.he} said to {hero.his} {friend.intro}.
{who} wanted to go to the moon. {hero.He} found a big box and said to {hero.his} {friend.intro}, "This is my rocket!"
""",
    problem="""
{hero} [drew|painted] stars on the box. {friend} made [buttons|a window] out of paper. It was a fine rocket.
{friend} [drew|made] big red buttons on the box, and {hero} made a round window. [It looked great!|It was ready to fly.]

"I am the captain," said {hero}. "No, I am the captain!" said {friend}. They [both tried to get in first|pushed each other].
"I will fly it," said {hero}. "[No, me|I want to fly it]!" said {friend}. They both [jumped in at once|pulled at the box].

Rip! The side of the box [broke|opened]. The rocket fell [down flat|over].
Then the box went rip! One side was [torn|broken]. They [looked at it|sat on the floor] and were very sad.
""",
    attempt="""
"Look what you did!" said {hero}. "You did it!" said {friend}. [They did not look at each other.|{friend} started to cry.]
"It is your fault," said {friend}. "No, yours," said {hero}. [They were both angry.|They sat far away from each other.]

Then {hero}'s {adult} came in. "[What happened to your rocket|Why is it so quiet in here]?" {adult.he} asked. They told {adult.him} everything.
{hero}'s {adult} saw the broken box. "[A rocket needs a good team|Nobody flies to the moon alone]," {adult.he} said.
""",
    solution="""
{hero} looked at {friend}. "I am sorry," {hero.he} said. "[I am sorry too|Me too]," said {friend}. "[Let's fix it|We can fix it together]."
"[I am sorry I pushed|I was not nice]," said {hero}. "Me too," said {friend}. They [shook hands|hugged].

They fixed the box with a lot of tape. [Now it was even stronger.|It was not pretty, but it was strong.] "There can be two captains," said {hero}.
{hero}'s {adult} gave them some tape, and they fixed the box. "You fly to the moon, and I will fly us [home|back]," said {hero}.

"Three, two, one, go!" they shouted. They flew past the [stars|sun and the stars] and [landed on the moon|saw a green moon man].
They got in together. "Three, two, one, go!" [Off they went to the moon.|The rocket went up to the stars.]
""",
    ending="""
They were back on the ground in time for [lunch|dinner]. "It is more fun with two," said {hero}, and {friend} [smiled|said yes].
{hero} learned that it is [better to be a team|no fun to fight]. Every day, {hero} and {friend} flew somewhere new.
{hero} and {friend} told {hero.his} {adult} all about the moon. It was the best trip ever.
""",
)

SAND_CASTLE = plot(
    "sand castle",
    when="sun",
    trait="""
{hero.He} loved [the beach|the sea]. {hero.He} loved to play in the sand.
{hero.He} liked to [build|make] things. {hero.He} wanted to build a castle.
""",
    scene="""
{who} went to the beach with {hero.his} {adult} and {hero.his} {friend.intro}. The sea was [blue|big and blue].
{who} wanted to build a big sand castle. {hero.He} went to the beach with {hero.his} {adult} and {hero.his} {friend.intro}.
""",
    problem="""
{hero} and {friend} [filled a bucket with sand|made a big pile of sand] and built a castle close to the water. It was [tall|big], with a door and a [flag|window].
They built a castle next to the sea. {hero} made the walls, and {friend} [put shells on them|made a tall tower].

Then a big wave came. [Whoosh|Splash]! When the water went back, the castle was gone.
But [whoosh|splash], a wave came and [went over|broke] the castle. There was only wet sand.
""",
    attempt="""
"Our castle!" cried {hero}. {hero.He} was so [angry|upset] that {hero.he} [kicked the sand|threw the shovel down].
"[Bad sea|Bad wave]!" shouted {hero}. "[You broke our castle|Go away]!" But the sea did not listen.

They built it again in the same place, [very fast|as fast as they could]. But then another wave came and took it away.
{friend} made a wall of sand to stop the water. But the next wave was [bigger|too strong], and the new castle fell too.
""",
    solution="""
"Look at the sand," said {hero}'s {adult}. "[Where is it wet, and where is it dry|How far does the water go]?" {hero} looked and thought.
{hero.His} {adult} sat down next to {hero.him}. "[The sea will not move|The waves will not stop]," {adult.he} said. "But can you move?"

"[I know|I see]! We must build it [up there|far from the water]!" said {hero}. They took the buckets and went up the beach.
Then {hero} [smiled|jumped up]. "The waves do not come up there!" {hero.he} said. They went to a [better|good] place, far from the water.

They worked together [for a long time|all afternoon]. The new castle was even [bigger|better] than the first one. The waves came, but they could not reach it.
{friend} got the sand, and {hero} built the walls. [Whoosh|Splash]! A wave came, but it did not touch the castle.
""",
    ending="""
"[Hooray|We did it]!" they shouted. {hero} put a [white shell|little stick with a leaf] on top. It was the best castle of all.
{hero} learned that when one way does not work, you can [find another way|try something new].
When the sun went down, the castle was still there. {hero} and {friend} [waved goodbye to it|were very proud of it].
""",
)

WET_ANIMAL = plot(
    "an animal in the rain",
    when="rain",
    animal=LOST_ANIMALS,
    umbrella=UMBRELLAS,
    place=PLAY_PLACES,
    grown_ups=PARENTS,
    trait="""
{hero.He} was kind to everyone. {hero.He} liked to play in the rain.
{hero.He} had {umbrella.a}. {hero.He} liked to hear the rain on it.
""",
    scene="""
{who} was playing {place.at} under {hero.his} {umbrella}. {hero.His} {adult} watched from a dry place.
{who} was playing {place.at} with {hero.his} {umbrella}. {hero.His} {adult} was there too.
{who} wanted to walk in the rain. {hero.He} took {hero.his} {umbrella} and went to {place} with {hero.his} {adult}.
""",
    problem="""
[Then|Soon] {hero.he} heard a small sound {spot}. "{animal.sound}! {animal.sound}!" It was {animal.a}, and it was all wet.
{hero} looked {spot} and saw {animal.a}. It was [wet and cold|shaking in the rain]. "{animal.sound}!" it said.

"[Oh, you poor thing|Poor little one]!" said {hero}. "[Where is your mom|Are you lost]?" The {animal.noun} looked so sad.
"You are so wet! [You need a dry place|You have to get dry]," said {hero}. The {animal.noun} looked up at {hero.him}.
""",
    attempt="""
{hero} wanted to pick it up, but the {animal.noun} was afraid. It ran away and hid [again|under some leaves].
{hero} went closer. But the {animal.noun} was scared and [ran behind a box|would not come out].

Then {hero} put {hero.his} {umbrella} on the ground, so the rain could not touch the {animal.noun}. Now {hero} was wet!
So {hero} sat down in the wet grass and held the {umbrella} over the {animal.noun}. {hero.He} [got very wet|did not move].

"[What are you doing|Why are you so wet], {hero}?" asked {hero.his} {adult}. "[The {animal.noun} needs it more than me|I am keeping the {animal.noun} dry]," {hero.he} said.
"{hero}, [you are all wet|come under a tree]!" called {hero.his} {adult}. "I cannot go. The {animal.noun} needs me," said {hero}.
""",
    solution="""
The {animal.noun} was not afraid anymore. It came out and [sat on {hero}'s foot|let {hero} pick it up].
Soon the {animal.noun} came closer and closer. It saw that {hero} was kind. [It let {hero} hold it.|It sat down next to {hero}.]

Just then, its mom came to look for it. "{animal.sound}!" she called. The {animal.noun} ran to her as fast as it could.
Then {hero} heard a big "{animal.sound}!" It was the mom of the {animal.noun}! She was so happy to see her little one.
""",
    ending="""
"Goodbye, little {animal.noun}!" said {hero}. {hero.His} {adult} gave {hero.him} a [dry coat|big hug]. "You are very kind," {adult.he} said.
{hero} walked home with {hero.his} {adult} under the {umbrella}. {hero.He} was wet, but {hero.his} heart was warm.
{hero} learned that [being kind feels good|a small kind thing can be a big help]. And the rain did not matter at all.
""",
    extras=(Character("the animal's mom", "animal", female=True),),
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
{who} wanted to see {hero.his} {boat} go on the water. {hero.He} went to {place} with {hero.his} {friend.intro}.
""",
    problem="""
The rain made a little river in the grass. {hero} put the {boat} on it. [Off it went!|It went very fast!]
There was a [long|big] puddle in the grass. {hero} put the {boat} in the water, and the wind [pushed it along|made it go].

But the boat went faster and faster. "[Stop, boat|Come back]!" shouted {hero}. It did not stop.
"[Look at it go|It is so fast]!" said {friend}. But then it went too far, and {hero} could not [catch|reach] it.
""",
    attempt="""
{hero} ran after it in {hero.his} big boots. [Splash, splash, splash!|The mud made {hero.him} slow.] {hero.He} slipped and fell down.
{hero} jumped to catch it, but {hero.he} [missed|fell into the water]. Splash!

{friend} threw a [stick|stone] in front of it to make it stop. But the boat went around it.
{friend} tried to stop it with {friend.his} foot, but the boat was too [fast|quick].

"It will be lost!" cried {hero}. "[Not yet|Do not give up]," said {friend}. "[We need to make a wall|Help me make a wall]!"
"My boat is going away," said {hero}, and {hero.he} [almost cried|was very sad]. "Quick, let's make a wall in front of it!" said {friend}.
""",
    solution="""
They ran ahead of the boat and put [mud and stones|sticks and mud] in the water. The boat came closer and closer.
They ran very fast and got in front of it. They made a wall out of [stones|sticks and stones].

[Bump|Plop]! The boat hit the little wall and stopped. "We got it!" {hero} shouted.
[Bump|Plop]! The boat stopped right at the wall. {hero} picked it up and held it [close|high in the air].

Behind the wall, the water was now a small lake. It was just right for a boat. They played there [until the rain stopped|for a long time].
"Look, our wall made a lake!" said {friend}. Now the boat could go around and around, and it was never lost.
""",
    ending="""
"You had the best idea, {friend}," said {hero}. They were wet and dirty, but they were very happy.
{hero} let {friend} play with the {boat} too. It was a [wonderful|very good] rainy day.
{hero} learned that two friends can [fix a problem better than one|do what one cannot]. Then the sun came out, and {hero} laughed.
""",
    siblings=False,
)

PLOTS = (LOST_CHILD, PICNIC, HUNGRY_ANIMAL, HURT_BIRD, ROCKET, SAND_CASTLE, WET_ANIMAL, RAIN_BOAT)
