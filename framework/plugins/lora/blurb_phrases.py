"""What the synthetic blurbs are made of: one `Shelf` of phrasings and slots per age group, from board books to teens.

The notation is that of ``framework.data.embedded.grammar``: one line is one phrasing, `[big|small]` is an inline choice,
`{hero}` a slot. Shelves share words on purpose (friends, brave, secret, adventure), as real blurbs do.
"""

from __future__ import annotations

from dataclasses import dataclass

from framework.data.embedded.grammar import Beat, parse_beats


@dataclass(frozen=True)
class Shelf:
    """The four beats of a blurb, and the words that its slots take."""

    hook: Beat
    story: Beat
    turn: Beat
    pitch: Beat
    kinds: tuple[str, ...]
    things: tuple[str, ...]
    places: tuple[str, ...]
    themes: tuple[str, ...]


def _shelf(*, hook: str, story: str, turn: str, pitch: str, kinds: str, things: str, places: str, themes: str) -> Shelf:
    beats = [parse_beats(text)[0] for text in (hook, story, turn, pitch)]
    words = [tuple(text.split(", ")) for text in (kinds, things, places, themes)]
    return Shelf(*beats, *words)


BOARD_BOOKS = _shelf(
    kinds="bunny, duck, bear, puppy, kitten, lamb, baby, chick, boy, girl",
    things="a soft blanket, a red ball, a warm bath, a big hat, a yellow duck, a little spoon, a teddy bear, a shiny moon",
    places="on the farm, in the garden, in the bath, at home, under the bed, at the zoo, in the sun, by the pond",
    themes="saying good night, first words, colors, counting, animal sounds, hugs, getting dressed, eating, family, shapes",
    hook="""
[Peekaboo|Boo|Hello, baby]! Who is hiding {place}? It is {hero.titled}!
[Splish, splash|Clap, clap|Moo, baa|Quack, quack]! {hero.titled} has {thing}.
[One, two, three|Up, up, up|Wiggle and giggle]! Play along with {hero.titled} {place}.
[Good night|Good morning|Hello], {hero.titled}! It is time for {thing}.
Where is {thing}? Help {hero.titled} [find it|look for it] {place}.
Meet {hero.titled}, who loves {thing}, [cuddles|kisses|hugs] and [naps|snacks|songs].
""",
    story="""
[Babies|Little ones|Toddlers] can [touch|lift|press|pat] the [flaps|fur|buttons|pages] and say the words for {thing} and more.
[See|Find|Count] the [ducks|stars|apples|toes] with {hero}, one by one, {place}.
{hero} [yawns|hops|waves|rolls] and {friend} does it too, all the way to {theme}.
Every page has [a friendly face|a bright picture|a new sound|a soft surprise] and a simple word about {theme}.
Mommy, daddy and {hero} play {place} until it is time for [bed|a nap|a kiss].
First {hero.he} finds {thing}, then {hero.he} says [good night|bye-bye|hello] to {friend}.
""",
    turn="""
[What comes next|Can you do it too|Who is that]? Lift the flap and see!
[Rhymes|Gentle rhymes|Simple words] and big [bright|clear|happy] pictures for [tiny|little] hands.
A [cozy|sweet|gentle] [bedtime|cuddle-time|bath-time] book about {theme}.
Sturdy pages, [rounded corners|soft colors|a mirror at the end] and lots of {theme}.
Everyone gets a [hug|kiss] at the end.
""",
    pitch="""
Perfect for [babies and toddlers|little hands|the very youngest|a first library].
A [sturdy|chunky|soft] [board book|first book] to share [at bedtime|on your lap|again and again].
Introduces {theme} with [flaps to lift|textures to feel|sounds to copy].
A [sweet|cheerful|lovely] book to read aloud about {theme}.
""",
)

PICTURE_BOOKS = _shelf(
    kinds="bear, fox, mouse, dinosaur, penguin, dragon, elephant, bunny, boy, girl, boy, girl",
    things="a lost mitten, a big red bus, a teddy bear, a birthday cake, a tiny seed, a noisy monster, a paper boat, a new coat, "
    "a kite, a magic crayon",
    places="in the forest, at the park, at preschool, in the garden, on the farm, under the bed, at grandma's house, in the snow",
    themes="sharing, being kind, saying sorry, big feelings, making friends, trying new things, bedtime, being different, "
    "the new baby, waiting your turn",
    hook="""
{hero.titled} [wants|has always wanted|really, really wants] {thing}.
{hero.titled} does not want to [go to bed|share|take a bath|say sorry]. Not today!
It is [the first day of preschool|a very snowy day|almost bedtime|{friend}'s birthday], and {hero.titled}
    feels [shy|grumpy|excited].
There is a [noise|monster|surprise] {place}, and {hero.titled} is [a little scared|very curious].
{hero.titled} and {friend} do everything together, until they find {thing}.
When {hero.titled} finds {thing} {place}, [everyone wants a turn|a funny day begins|nobody knows what to do].
""",
    story="""
{hero} asks [the bear|mama|grandpa|the owl], but nobody can help, so {hero.he} sets off {place} with {friend}.
{hero} [huffs and puffs|stomps and roars|tries and tries], and still it goes wrong. What will {friend} say?
Together they [build|bake|paint|plant] {thing}, and learn about {theme} along the way.
But what happens when {friend} wants it too? {hero} has to learn about {theme}.
With a little help from {friend}, {hero.he} finds out that {theme} is not so hard after all.
Page after page, {hero} looks {place} and meets [a silly goose|a sleepy bear|a kind giant|a grumpy cat].
""",
    turn="""
A [funny|warm|gentle|charming] story about {theme} and [friendship|family|love].
Sometimes the [best|biggest] adventure is the one you share with a friend.
With [rhyming text|playful words|bright pictures], it shows that everyone is [special|brave] in their own way.
Can {hero} be brave, and will {friend} still be {hero.his} friend?
It all ends with [a big hug|a party|a surprise] {place}.
""",
    pitch="""
A picture book to read aloud about {theme}.
[Beautiful|Colorful|Funny] illustrations will [delight|charm] [young readers|preschoolers|the whole family].
[Perfect|Just right] for [story time|bedtime|the first day of preschool|families].
Children will [laugh|giggle|cheer] and ask for it [again and again|every night].
""",
)

CHAPTER_BOOKS = _shelf(
    kinds="boy, girl, boy, girl, boy, girl, robot, dragon, fox",
    things="a secret map, a missing trophy, a talking dog, a time machine, a mysterious key, a school play, a giant pumpkin, "
    "a broken robot, a ghost, a magic crayon",
    places="at school, in the library, at summer camp, in the old house next door, in outer space, at the museum, on the soccer "
    "field, in the forest, on a pirate ship",
    themes="teamwork, telling the truth, solving mysteries, dinosaurs, pets, making friends, science, being brave, sports",
    hook="""
{hero} [just moved to a new school|is starting second grade|has a loose tooth and a big problem], and now there is {thing}.
There is a mystery {place}, and {hero} is [on the case|the only one who noticed].
{hero.titled} and {friend} have a secret club, a [password|tree house|notebook], and {thing}.
What would you do with {thing}? {hero.titled} has [a plan|ten ideas|one week to find out].
Third grade was going [fine|great] until {hero} found {thing} {place}.
{hero.titled} is [the worst player on the team|always in trouble|not afraid of anything], except {thing}.
""",
    story="""
{hero} and {friend} follow the clues {place}, but someone is always one step ahead.
Then {friend} stops talking to {hero.him}, the teacher is [suspicious|angry], and the science fair is only a week away.
The twins next door say it is [impossible|a trick|haunted], so {hero} decides to prove it with {thing}.
Before {hero.he} knows it, {hero} is [back in the time of the dinosaurs|on stage|in the principal's office|lost] with {friend}.
With {thing} and a little luck, the friends must [win the big game|save the class pet|solve the puzzle] before Friday.
{hero} learns about {theme} the hard way, and makes a [new friend|funny mistake] {place}.
""",
    turn="""
Can they [solve the mystery|win|fix everything] before [the bell rings|it is too late|anyone finds out]?
A [funny|fast-paced|laugh-out-loud] adventure about {theme} and friendship.
It will take [teamwork|courage|a very good joke] to get out of this one.
The first book in a series about {theme}, with [jokes|puzzles|facts] at the back.
Sometimes the biggest adventure begins {place}.
""",
    pitch="""
Short chapters and [funny|black-and-white] illustrations make it perfect for [newly independent|young|reluctant] readers.
An early chapter book for fans of {theme}.
[Kids|Readers|Children] who love {theme} will [laugh|cheer] [out loud|all the way through].
Easy to read, hard to put down.
""",
)

NOVELS = _shelf(
    kinds="boy, girl, boy, girl, boy, girl, boy, girl, dragon",
    things="an ancient prophecy, a stolen crown, a letter from her father, a forbidden book, a deadly virus, a secret map, "
    "a mysterious key, a broken promise, a war, a ghost",
    places="in a divided kingdom, in occupied Europe, at a boarding school, in a city under the sea, at summer camp, on a dying "
    "planet, in a small town with secrets, in outer space, at middle school",
    themes="loss and hope, courage, loyalty, growing up, identity, family secrets, survival, friendship, telling the truth",
    hook="""
{hero} has never [belonged|broken a rule|told anyone the truth] {place}.
[Twelve-year-old|Thirteen-year-old|Eleven-year-old] {hero} is used to keeping secrets, but nothing
    prepared {hero.him} for {thing}.
When {hero.his} [brother disappears|mother dies|village burns|best friend betrays {hero.him}], {hero} is left with {thing}.
In a world where [magic is forbidden|the sun never rises|memories are sold], {hero} discovers {thing}.
{hero} thought seventh grade would be [simple|invisible]. Then came {thing}.
For centuries {thing} lay hidden {place}. Now {hero} must decide whom to trust.
""",
    story="""
Hunted by [the empire|a ruthless enemy|shadows from the past], {hero} and {friend} must cross [the border|the desert|the sea].
As [war|winter|rebellion] approaches, {hero.he} is torn between {friend} and everything {hero.he} was raised to believe.
What begins as a [dare|search for the truth|quest] {place} becomes a fight for survival.
{hero} and {friend} follow the clues {place}, but someone is always one step ahead.
The deeper {hero.he} looks into {thing}, the more dangerous {hero.his} family's past becomes.
Told in alternating voices, this is the story of {hero} and {friend}, and of {theme}.
""",
    turn="""
Will {hero} [sacrifice everything|find the courage to speak|forgive] before it is too late?
A [gripping|haunting|powerful|heartbreaking] [novel|tale] about {theme}.
Nothing will ever be the same again.
An unforgettable story of {theme}, [betrayal|first love|destiny] and friendship.
Some secrets are worth [dying|fighting] for.
""",
    pitch="""
A [stunning|thrilling|critically acclaimed] [debut|novel|start to a trilogy] for [middle-grade|teen|young adult] readers.
Perfect for fans of [epic fantasy|dystopian fiction|historical fiction|page-turning mysteries].
[Readers|Fans] who love {theme} will not be able to put it down.
Based on [a true story|real events|Norse mythology|the author's own childhood].
""",
)

SHELVES = (BOARD_BOOKS, PICTURE_BOOKS, CHAPTER_BOOKS, NOVELS)
"""In the order of age."""
