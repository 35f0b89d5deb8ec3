"""Plans about children and animals that need them."""

from framework.data.embedded.grammar import plot
from framework.data.embedded.vocabulary import (
    BIRDS,
    LOST_ANIMALS,
    PARENTS,
    PETS,
    PLAY_PLACES,
    STRAY_PLACES,
    TREE_PLACES,
    UMBRELLAS,
    Character,
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
"[Look at you|You look funny], Spot! It is time to wash!" said {hero}. But Spot was afraid of [soap|the
    water].

When Spot saw the water, it [ran away|ran as fast as it could]. {hero} ran after it.
Spot [looked at the tub|saw the soap] and ran away. "Come back, Spot!" called {hero}.
""",
    attempt="""
{hero.His} {adult} came to help. {adult.He} [called Spot|held out {adult.his} arms], but the dog ran right
    between {adult.his} legs!
"I will help you," said {hero.his} {adult}. {adult.He} tried to catch Spot, but {adult.he} [got mud on
    {adult.his} face|slipped in the mud].

Then {hero} sat down to think. "[Spot loves to play|Spot likes toys]," {hero.he} said. "[I know what to
    do|That is it]!"
{hero} stopped running. "[I have an idea|I know]!" {hero.he} said. "What does Spot like best? Toys!"
""",
    solution="""
{hero} threw a [rubber duck|little ball] into the tub. [Splash|Plop]! Spot jumped in after it.
{hero} put a [ball|toy boat] in the water. Spot [looked at it|wagged its tail]. Then, splash! Spot jumped in!

{hero} washed Spot with [warm water|lots of soap] while it played. [Spot liked it!|Spot was not afraid
    anymore.]
They washed Spot while it played. Soon there were bubbles [everywhere|on every nose].
""",
    ending="""
They all laughed. {hero} [dried Spot with a big towel|hugged {hero.his} clean dog]. Spot was [dry|soft] and
    happy.
From that day on, Spot [liked baths|was not afraid of baths], and {hero} always put a toy in the tub.
{hero} learned that [hard things can be fun if you make a game of them|a kind way is the best way].
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
{who} was playing {place.at}. {hero.His} {adult} was there too. Then {hero.he} heard a [small|soft] sound.
    "{animal.sound}! {animal.sound}!"
{who} went for a walk with {hero.his} {adult}. When they came to {place}, {hero.he} heard something.
    "{animal.sound}! {animal.sound}!"
{who} wanted to go to {place} with {hero.his} {adult}. When they got there, they heard a sound.
    "{animal.sound}! {animal.sound}!"
""",
    problem="""
{hero} looked {spot}. There was {animal.a}! It was [alone and thin|all alone].
{hero} [went to look|looked] {spot} and found {animal.a}. It was [very thin|shaking].

"Look, {adult.call}! [It is all alone|It looks so sad]," said {hero}. "[I think it is hungry|It must be
    hungry]."
"[Poor little {animal.noun}|Oh, you poor {animal.noun}]! Are you hungry?" asked {hero}. The {animal.noun}
    looked up with big eyes.
""",
    attempt="""
"[I think it wants|It needs] {animal.food}," said {hero.his} {adult}. They went to get some.
"Let's try {animal.food}," said {hero.his} {adult}. "[I have some in my bag|I will get some]."
""",
    solution="""
{hero} gave it some {animal.food}. The {animal.noun} ate [and ate until it was full|everything].
    "{animal.sound}!" it said.
The {animal.noun} saw the food and ate it [very fast|right away]. Then it [sat on {hero}'s
    foot|came close to {hero}].

"Can we keep it?" asked {hero}. "[First|Yes, but first], we must find out if it has a home," said {hero.his}
    {adult}.
"It has no home," said {hero}. "Can we keep it, please?" "[Let's ask around first|We have to ask first],"
    said {hero.his} {adult}.

They asked everybody, but [nobody knew the {animal.noun}|nobody was looking for it]. So {hero} took it home.
They asked [all the people who lived nearby|every person they met]. It did not have a home. "Then it can
    live with us!" said {hero.his} {adult}.
""",
    ending="""
{hero} made a [soft|warm] bed for it in a box. The {animal.noun} was not hungry or alone anymore, and {hero}
    had a new friend.
{hero} named it [Lucky|Button|Cookie|Star]. {hero} and the {animal.noun} played together every day.
{hero} was so happy. {hero.He} fed the {animal.noun} every day, and it [grew big and strong|always came when
    {hero.he} called].
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
{who} wanted to see the birds. {hero.He} went to {place} with {hero.his} {friend.intro}, and they saw
    {bird.a} under a tree.
""",
    problem="""
The bird tried to fly, but it could not. "[Its wing is hurt|Look at its wing]," said {hero}. "[Poor bird|We
    have to help it]."
The bird did not fly away. It had a hurt wing. "[Poor little bird|It cannot fly]!" said {hero}.
""",
    attempt="""
"My {adult} knows what to do," said {hero}. {hero.He} [ran home|went to get {adult.him}], and {friend}
    stayed with the bird.
"[Stay here|Wait here] with the bird," said {hero}. "I will get my {adult}." And {hero.he} ran [very
    fast|home].

{hero}'s {adult} came with a box. {adult.He} put the bird in the box [very gently|with soft hands]. "It
    needs rest, water, and food," {adult.he} said.
{hero}'s {adult} looked at the wing. "It will get better [soon|with time]," {adult.he} said, and {adult.he}
    put the bird in a [soft|warm] box.
""",
    solution="""
Every day, {hero} gave the bird [water and seeds|seeds to eat]. {friend} came to see it too. [They were very
    quiet.|They sang to it.]
{hero} and {friend} took care of the bird. They gave it seeds and water [every day|every morning].

After a week, the bird [began to sing|moved its wing]. "It is better now!" said {friend}. They took the box
    outside.
Then, one morning, the bird began to [hop|sing]. Its wing was better. They took it [outside|back to the tree].

The bird [looked at {hero}|sang a little song]. Then it opened its wings and flew up into the sky.
{hero} opened the box. The bird flew [up, up, up|around their heads] and into a tree. "Goodbye!" said
    {friend}.
""",
    ending="""
{hero} was a little sad, but {hero.he} was happy too. The bird was [free|well] again.
The next day, the bird came back and sang at {hero}'s window. [It was a thank you song.|{hero} waved and
    smiled.]
"[A bird needs the sky|It is good to help]," said {hero}. {hero} and {friend} waved until they could not see
    the bird anymore.
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
{who} wanted to walk in the rain. {hero.He} took {hero.his} {umbrella} and went to {place} with {hero.his}
    {adult}.
""",
    problem="""
[Then|Soon] {hero.he} heard a small sound {spot}. "{animal.sound}! {animal.sound}!" It was {animal.a}, and
    it was all wet.
{hero} looked {spot} and saw {animal.a}. It was [wet and cold|shaking in the rain]. "{animal.sound}!" it said.
""",
    attempt="""
{hero} wanted to pick it up, but the {animal.noun} was afraid. It ran away and hid [again|under some leaves].
{hero} went closer. But the {animal.noun} was scared and [ran behind a box|would not come out].

Then {hero} put {hero.his} {umbrella} on the ground, so the rain could not touch the {animal.noun}. Now
    {hero} was wet!
So {hero} sat down in the wet grass and held the {umbrella} over the {animal.noun}. {hero.He} [got very
    wet|did not move].
""",
    solution="""
The {animal.noun} was not afraid anymore. It came out and [sat on {hero}'s foot|let {hero} pick it up].
Soon the {animal.noun} came closer and closer. It saw that {hero} was kind. [It let {hero} hold it.|It sat
    down next to {hero}.]

Just then, its mom came to look for it. "{animal.sound}!" she called. The {animal.noun} ran to her as fast
    as it could.
Then {hero} heard a big "{animal.sound}!" It was the mom of the {animal.noun}! She was so happy to see her
    little one.
""",
    ending="""
"Goodbye, little {animal.noun}!" said {hero}. {hero.His} {adult} gave {hero.him} a [dry coat|big hug]. "You
    are very kind," {adult.he} said.
{hero} walked home with {hero.his} {adult} under the {umbrella}. {hero.He} was wet, but {hero.his} heart was
    warm.
{hero} learned that [being kind feels good|a small kind thing can be a big help]. And the rain did not
    matter at all.
""",
    extras=(Character("the animal's mom", "animal", female=True),),
)

PLOTS = (DOG_BATH, HUNGRY_ANIMAL, HURT_BIRD, WET_ANIMAL)
