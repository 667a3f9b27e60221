/* The compiled subword encoder: the ids of worker/text/subwords.py, whose `Vocabulary` is the reference, at a tenth of the time.

   How a text is cut is told there. Here a text becomes UTF-8 in a scratch buffer, and bitmaps over blocks of 64 bytes (word
   character, space) give the start of every token without a branch. A token of at most WHOLE bytes is first looked up as a
   whole in a hash; what is not there is cut greedily by a double-array trie. A text with underscores or with subwords that mix
   word characters with others (rare) goes run by run instead, as the reference does it.

   What a word character is, the interpreter is asked (Py_UNICODE_ISALNUM, as its regular expressions do): each version of
   Python has another version of Unicode.

   Threads. An Encoder and a Rows never change after they were made; everything else belongs to one call. The interpreter's lock
   is released while a window of some size is encoded or padded: a str's characters never change, and the call holds the strs.

   Time. Of n bytes of a text, which is cut to (limit + 4) * longest characters first (L: bytes of the longest subword):
     - tokens take at most n * (L + 1 + PROBES) steps: each step of cutting moves on by a byte or more and looks at L at most;
     - a text that goes run by run, where each underscore becomes seven bytes, at most 7 times that, and n * (L + 1) to find runs.
   So time is linear in the text, whatever it holds. With COUNT_STEPS defined the steps are counted, for the tests.

   Memory. For a window 4 bytes an id, up to three times that while it grows; for its largest text 4 bytes a character and
   a quarter more for bitmaps, and 14 bytes a byte of its longest run where it has underscores.

   Every allocation and every size that could overflow is checked; bytes are read as larger integers through memcpy only. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if !defined(__GNUC__) || !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "for little-endian machines, with gcc or clang; without this extension the worker uses its Python encoder"
#endif

#define UNDERSCORE "\\&undsc" /* stands for an underscore of the text */
#define UNDERSCORE_LENGTH 7
#define TAKEN 0xFF   /* stands for the space that a token takes in (`_` at a subword's end); no byte of UTF-8 */
#define WHOLE 12     /* bytes of the longest tokens that are looked up whole */
#define PROBES 16    /* places of the hash that are looked at; what does not fit there is found by the trie */
#define GROUP 32     /* blocks whose token starts are gathered before the tokens are looked up */
#define SLACK 16     /* bytes behind a text that may be read */
#define ONES 0x0101010101010101ull
#define HIGH (ONES << 7)
#define MOST_BASES ((size_t)1 << 23)     /* a link has 23 bits for a base */
#define MOST_SUBWORDS ((size_t)1 << 24)
#define WORTH_RELEASING_CHARACTERS 16384 /* about 80 µs; getting the lock back can take a thread switch */
#define WORTH_RELEASING_BYTES (1 << 18)  /* of a padded tensor: about 30 µs */

#define NO_MEMORY (-1)
#define TOO_LARGE (-2)

#ifdef COUNT_STEPS /* not for threads */
static unsigned long long steps;
#define STEP() ((void)steps++)
#else
#define STEP() ((void)0)
#endif

#ifdef EXACT_ROOM /* so that the sanitizers see a write that is one too far */
#define SPARE(room) ((room) * 0)
#else
#define SPARE(room) (room) /* lest what grows bit by bit is copied each time */
#endif

/* Memory for `count` elements; the old contents stay. Needs no interpreter. NULL: there is none, and `old` is as it was. */
static void *resized(void *old, size_t count, size_t size) {
    if (count > (size_t)PY_SSIZE_T_MAX / size) return NULL;
    return PyMem_RawRealloc(old, count * size);
}

/* ---- UTF-8 */

static int is_word(Py_UCS4 code) { return code == '_' || Py_UNICODE_ISALNUM(code); }

/* The code point at `at`, in well-formed UTF-8; returns its bytes. */
static size_t decode(const uint8_t *at, Py_UCS4 *code) {
    Py_UCS4 lead = at[0];
    if (lead < 0x80) {
        *code = lead;
        return 1;
    }
    if (lead < 0xE0) {
        *code = (lead & 0x1F) << 6 | (at[1] & 0x3Fu);
        return 2;
    }
    if (lead < 0xF0) {
        *code = (lead & 0x0F) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
        return 3;
    }
    *code = (lead & 0x07) << 18 | (at[1] & 0x3Fu) << 12 | (at[2] & 0x3Fu) << 6 | (at[3] & 0x3Fu);
    return 4;
}

/* Writes a code point, U+FFFD for a surrogate; returns where the next one goes. */
static inline uint8_t *put(uint8_t *to, Py_UCS4 code) {
    if (code < 0x80) {
        *to++ = (uint8_t)code;
        return to;
    }
    if (code < 0x800) {
        *to++ = (uint8_t)(0xC0 | code >> 6);
    } else {
        if (code >= 0xD800 && code <= 0xDFFF) code = 0xFFFD;
        if (code < 0x10000) {
            *to++ = (uint8_t)(0xE0 | code >> 12);
        } else {
            *to++ = (uint8_t)(0xF0 | code >> 18);
            *to++ = (uint8_t)(0x80 | (code >> 12 & 0x3F));
        }
        *to++ = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    }
    *to++ = (uint8_t)(0x80 | (code & 0x3F));
    return to;
}

/* The characters of a str, which holds them. */
typedef struct {
    const void *data;
    size_t length;
    int kind; /* bytes a character; 0: ASCII */
} Text;

/* Bytes of the first `length` characters as UTF-8, at most. Cannot overflow: a str's own bytes do not. */
static size_t utf8_room(const Text *text, size_t length) {
    return text->kind == 0 ? length : text->kind == 1 ? length * 2 : text->kind == 2 ? length * 3 : length * 4;
}

/* Writes the first `length` characters as UTF-8; returns its bytes. */
static size_t to_utf8(const Text *text, size_t length, uint8_t *to) {
    uint8_t *start = to;
    uint64_t several;
    if (text->kind == 0) {
        memcpy(to, text->data, length);
        return length;
    }
    if (text->kind == 1) {
        const uint8_t *from = text->data;
        for (size_t at = 0; at < length;) {
            if (length - at >= 8 && (memcpy(&several, from + at, 8), !(several & HIGH))) {
                memcpy(to, &several, 8);
                to += 8, at += 8;
            } else {
                to = put(to, from[at++]);
            }
        }
    } else if (text->kind == 2) {
        const Py_UCS2 *from = text->data;
        for (size_t at = 0; at < length;) {
            if (length - at >= 4 && (memcpy(&several, from + at, 8), !(several & 0xFF80FF80FF80FF80ull))) {
                for (int n = 0; n < 4; n++) to[n] = (uint8_t)(several >> (16 * n));
                to += 4, at += 4;
            } else {
                to = put(to, from[at++]);
            }
        }
    } else {
        const Py_UCS4 *from = text->data;
        for (size_t at = 0; at < length; at++) to = put(to, from[at]);
    }
    return (size_t)(to - start);
}

/* ---- the trie: a double array. The child of a node by a byte is at base ^ byte, if that cell's label is the byte. */

typedef struct {
    uint32_t id;   /* 0: no key ends here */
    uint32_t link; /* base << 9 | label + 1; label + 1 is 0 in an unused cell, base is 0 in a leaf */
} Node;

typedef struct {
    Node *nodes; /* whole blocks of 256: what a node's base ^ byte gives is always one of them */
    size_t size;
} Trie;

typedef struct {
    const uint8_t *bytes;
    size_t length;
    uint32_t id;
} Key;

/* By bytes; of equal keys the one with the higher id comes last. */
static int compare_keys(const void *a, const void *b) {
    const Key *one = a, *other = b;
    size_t shorter = one->length < other->length ? one->length : other->length;
    int order = memcmp(one->bytes, other->bytes, shorter);
    if (order) return order;
    if (one->length != other->length) return one->length < other->length ? -1 : 1;
    return one->id < other->id ? -1 : one->id > other->id;
}

typedef struct {
    Trie *trie;
    uint8_t *used; /* by base: 1 where a node has it */
    size_t lowest; /* where the search for a base begins */
} Builder;

/* A trie has room for every child of `base`. */
static int have_room(Builder *builder, size_t base) {
    Trie *trie = builder->trie;
    size_t needed = (base | 0xFF) + 1, size = needed * 2;
    if (needed <= trie->size) return 0;
    Node *nodes = resized(trie->nodes, size, sizeof *nodes);
    if (!nodes) return NO_MEMORY;
    trie->nodes = nodes;
    uint8_t *used = resized(builder->used, size, 1);
    if (!used) return NO_MEMORY;
    builder->used = used;
    memset(nodes + trie->size, 0, (size - trie->size) * sizeof *nodes);
    memset(used + trie->size, 0, size - trie->size);
    trie->size = size;
    return 0;
}

/* Gives a node a base at which the cells of all its children are free, and the children their labels. */
static int place_children(Builder *builder, size_t node, const uint8_t *labels, size_t children) {
    Trie *trie = builder->trie;
    size_t base = builder->lowest;
    for (;; base++) {
        STEP();
        if (base >= MOST_BASES) return TOO_LARGE;
        if (have_room(builder, base)) return NO_MEMORY;
        if (builder->used[base]) continue;
        size_t child = 0;
        while (child < children && !trie->nodes[base ^ labels[child]].link) child++;
        if (child == children) break;
    }
    builder->used[base] = 1;
    trie->nodes[node].link |= (uint32_t)base << 9;
    for (size_t child = 0; child < children; child++) trie->nodes[base ^ labels[child]].link = labels[child] + 1u;
    /* Gives up what is left of the lower cells, lest the search takes time in the square of the subwords. */
    if (base > builder->lowest + 512) builder->lowest = base - 512;
    while (builder->lowest < trie->size && (builder->used[builder->lowest] || trie->nodes[builder->lowest].link))
        builder->lowest++;
    return 0;
}

/* A node whose keys, `from` to `to`, have `depth` bytes in common. */
typedef struct {
    size_t node, from, to, depth;
} Open;

/* Takes sorted keys, none of them empty. The caller frees the trie's nodes, whatever is returned: 0, NO_MEMORY or TOO_LARGE. */
static int build_trie(Trie *trie, const Key *keys, size_t count) {
    size_t waiting = 1, room = 1024;
    Builder builder = {trie, NULL, 1};
    Open *open = resized(NULL, room, sizeof *open); /* not the C stack: a subword can be long */
    int failed = open ? have_room(&builder, 0) : NO_MEMORY;
    if (!failed) {
        trie->nodes[0].link = 1; /* the root is nobody's child: no base is 0 */
        open[0] = (Open){0, 0, count, 0};
    }
    while (!failed && waiting) {
        Open here = open[--waiting];
        while (here.from < here.to && keys[here.from].length == here.depth)
            trie->nodes[here.node].id = keys[here.from++].id;
        if (here.from == here.to) continue;
        uint8_t labels[256];
        size_t firsts[257], children = 0;
        for (size_t key = here.from; key < here.to; key++) {
            uint8_t label = keys[key].bytes[here.depth];
            if (children && labels[children - 1] == label) continue;
            labels[children] = label;
            firsts[children++] = key;
        }
        firsts[children] = here.to;
        if ((failed = place_children(&builder, here.node, labels, children))) break;
        if (waiting + children > room) {
            Open *more = resized(open, (waiting + children) * 2, sizeof *open);
            if (!more) {
                failed = NO_MEMORY;
                break;
            }
            open = more;
            room = (waiting + children) * 2;
        }
        size_t base = trie->nodes[here.node].link >> 9;
        for (size_t child = 0; child < children; child++)
            open[waiting++] = (Open){base ^ labels[child], firsts[child], firsts[child + 1], here.depth + 1};
    }
    PyMem_RawFree(open);
    PyMem_RawFree(builder.used);
    return failed;
}

/* The length of the longest key that the bytes begin with, and its id; 0 for none. */
static inline size_t longest_key(const Trie *trie, const uint8_t *bytes, size_t length, uint32_t *id) {
    uint32_t link = trie->nodes[0].link;
    size_t found = 0;
    for (size_t n = 0; n < length && link >> 9; n++) {
        STEP();
        Node node = trie->nodes[link >> 9 ^ bytes[n]];
        if ((node.link & 0x1FF) != bytes[n] + 1u) break;
        if (node.id) {
            found = n + 1;
            *id = node.id;
        }
        link = node.link;
    }
    return found;
}

/* ---- an encoder: the tables of one vocabulary */

typedef struct {
    uint64_t low;
    uint32_t high, id; /* id 0: unused */
} Entry;

typedef struct {
    PyObject_HEAD
    Trie subwords;
    Trie reserved; /* what is kept whole although it mixes word characters with others */
    uint8_t reserved_starts[256];
    int reserved_have_backslashes; /* all of them, as usual: only the escaped underscore and its like */
    Entry *whole;                  /* subwords of up to WHOLE bytes, by what they are in a text */
    size_t whole_mask;
    unsigned whole_shift;
    uint32_t first_byte; /* the id of byte 0 */
    size_t longest;      /* characters of the longest subword: no id stands for more */
    size_t limit;        /* ids of a row, at most */
} Encoder;

static inline size_t home(const Encoder *self, uint64_t low, uint32_t high) {
    uint64_t mixed = (low ^ 0x9E3779B97F4A7C15ull) * 0xD6E8FEB86659FD93ull;
    mixed = (mixed ^ mixed >> 32 ^ (uint64_t)high * 0xC2B2AE3D27D4EB4Full) * 0x9E3779B97F4A7C15ull;
    return (size_t)(mixed >> self->whole_shift);
}

/* Reads 12 bytes. What is beyond the token becomes ones, a byte that no text holds: with zeros "a" and "a\0" would be alike. */
static inline void whole_key(const uint8_t *bytes, size_t length, uint64_t *low, uint32_t *high) {
    memcpy(low, bytes, 8);
    memcpy(high, bytes + 8, 4);
    if (length < 8) {
        *low |= ~0ull << (8 * length);
        *high = ~0u;
    } else if (length < WHOLE) {
        *high |= ~0u << (8 * (length - 8));
    }
}

/* The id of the subword that is this token, of up to WHOLE bytes and not empty; 0 where it is not known here. */
static inline uint32_t whole_id(const Encoder *self, const uint8_t *bytes, size_t length) {
    uint64_t low;
    uint32_t high;
    whole_key(bytes, length, &low, &high);
    size_t place = home(self, low, high);
    for (int probe = 0; probe < PROBES; probe++) {
        STEP();
        const Entry *entry = &self->whole[place];
        if (entry->low == low && entry->high == high && entry->id) return entry->id;
        if (!entry->id) return 0;
        place = (place + 1) & self->whole_mask;
    }
    return 0;
}

static void whole_put(Encoder *self, const uint8_t *bytes, size_t length, uint32_t id) {
    uint8_t padded[WHOLE] = {0};
    uint64_t low;
    uint32_t high;
    memcpy(padded, bytes, length);
    whole_key(padded, length, &low, &high);
    size_t place = home(self, low, high);
    for (int probe = 0; probe < PROBES; probe++) {
        Entry *entry = &self->whole[place];
        if (!entry->id || (entry->low == low && entry->high == high)) {
            *entry = (Entry){low, high, id}; /* of equal subwords the last counts */
            return;
        }
        place = (place + 1) & self->whole_mask;
    }
}

/* ---- encoding: nothing from here to "Python's side" needs the interpreter's lock */

typedef struct {
    int32_t *ids;
    size_t count, room;
} Ids;

typedef struct {
    uint8_t *text;   /* UTF-8, then zeros to the end of the last block and SLACK more */
    uint64_t *word;  /* a bit for each byte: of a word character; one block more than the text has */
    uint64_t *space; /* a bit for each byte: a space */
    uint8_t *token;  /* with its underscores escaped */
    size_t blocks, token_room;
} Scratch;

static void scratch_free(Scratch *scratch) {
    PyMem_RawFree(scratch->text);
    PyMem_RawFree(scratch->word);
    PyMem_RawFree(scratch->space);
    PyMem_RawFree(scratch->token);
}

static int scratch_room(Scratch *scratch, size_t blocks) {
    if (blocks <= scratch->blocks) return 0;
    if (blocks > ((size_t)PY_SSIZE_T_MAX - SLACK) / 64) return NO_MEMORY;
    PyMem_RawFree(scratch->text);
    PyMem_RawFree(scratch->word);
    PyMem_RawFree(scratch->space);
    scratch->blocks = 0;
    scratch->text = resized(NULL, blocks * 64 + SLACK, 1);
    scratch->word = resized(NULL, blocks + 1, sizeof(uint64_t));
    scratch->space = resized(NULL, blocks, sizeof(uint64_t));
    if (!scratch->text || !scratch->word || !scratch->space) return NO_MEMORY;
    scratch->blocks = blocks;
    return 0;
}

static int reserve_ids(Ids *out, size_t more) {
    if (out->room - out->count >= more) return 0;
    if (out->room > SIZE_MAX / 4 || more > SIZE_MAX / 4) return NO_MEMORY;
    size_t room = out->count + more, spare = SPARE(out->room * 2);
    if (room < spare) room = spare;
    int32_t *ids = resized(out->ids, room, sizeof *ids);
    if (!ids) return NO_MEMORY;
    out->ids = ids;
    out->room = room;
    return 0;
}

/* One token, greedily into subwords and bytes, until there are more than `stop` ids. Writes at most as many ids as the token
   has bytes, and up to `stop` + 4 in all: there must be room. */
static void cut(const Encoder *self, const uint8_t *token, size_t length, size_t stop, Ids *out) {
    int32_t *ids = out->ids;
    size_t count = out->count;
    for (size_t at = 0; at < length && count <= stop;) {
        uint32_t id = 0;
        size_t found = longest_key(&self->subwords, token + at, length - at, &id);
        if (found) {
            ids[count++] = (int32_t)id;
            at += found;
            continue;
        }
        ids[count++] = (int32_t)(self->first_byte + (token[at] == TAKEN ? ' ' : token[at]));
        for (at++; at < length && (token[at] & 0xC0) == 0x80; at++)
            ids[count++] = (int32_t)(self->first_byte + token[at]);
    }
    out->count = count;
}

static inline int bit(const uint64_t *bits, size_t at) { return bits[at / 64] >> (at % 64) & 1; }

/* The highest bits of 8 bytes as 8 bits. */
static inline uint64_t gather(uint64_t bytes) { return ((bytes >> 7 & ONES) * 0x0102040810204080ull) >> 56; }

/* Of 8 bytes below 128: the highest bit of those that are at least, or equal to, this byte. The other bits mean nothing. */
static inline uint64_t at_least(uint64_t bytes, unsigned byte) { return bytes + ONES * (0x80 - byte); }
static inline uint64_t equal_to(uint64_t bytes, unsigned byte) { return ~((bytes ^ ONES * byte) + ONES * 0x7F); }

/* The bits of one block's word characters beyond ASCII; `high`: its bytes beyond ASCII. A character that goes on in the next
   block has bits there, too. */
static uint64_t word_bits(const uint8_t *block, uint64_t high, uint64_t *next) {
    uint64_t bits = 0;
    for (; high; high &= high - 1) {
        unsigned at = (unsigned)__builtin_ctzll(high);
        if (block[at] < 0xC0) continue;
        Py_UCS4 code;
        size_t length = decode(block + at, &code);
        if (!is_word(code)) continue;
        uint64_t ones = (1ull << length) - 1;
        bits |= ones << at;
        if (at + length > 64) *next = ones >> (64 - at);
    }
    return bits;
}

#define HAS_UNDERSCORE 1
#define HAS_BACKSLASH 2

/* Fills the bitmaps for the n bytes of the text; tells which rare characters it has. */
static int classify(Scratch *scratch, size_t n) {
    size_t blocks = n / 64 + 1;
    uint64_t underscores = 0, backslashes = 0, carried = 0;
    memset(scratch->text + n, 0, blocks * 64 + SLACK - n);
    for (size_t block = 0; block < blocks; block++) {
        const uint8_t *bytes = scratch->text + block * 64;
        uint64_t word = 0, space = 0, high = 0;
        for (unsigned part = 0; part < 64; part += 8) {
            uint64_t x;
            memcpy(&x, bytes + part, 8);
            uint64_t ascii = ~x & HIGH, x7 = x & ~HIGH, lower = x7 | ONES * 0x20;
            uint64_t letters = at_least(lower, 'a') & ~at_least(lower, 'z' + 1);
            uint64_t digits = at_least(x7, '0') & ~at_least(x7, '9' + 1);
            uint64_t unders = equal_to(x7, '_') & ascii;
            underscores |= unders;
            backslashes |= equal_to(x7, '\\') & ascii;
            word |= gather((letters | digits | unders) & ascii) << part;
            space |= gather(equal_to(x7, ' ') & ascii) << part;
            high |= gather(x) << part;
        }
        word |= carried;
        carried = 0;
        if (high) word |= word_bits(bytes, high, &carried);
        scratch->word[block] = word;
        scratch->space[block] = space;
    }
    scratch->word[blocks] = 0;
    return (underscores ? HAS_UNDERSCORE : 0) | (backslashes ? HAS_BACKSLASH : 0);
}

/* A text without underscores and reserved subwords: the starts of its tokens follow from the bitmaps. */
static void encode_usual(const Encoder *self, Scratch *scratch, size_t n, size_t stop, Ids *out) {
    uint64_t *word = scratch->word, last_bit = 0;
    uint8_t *text = scratch->text;
    size_t starts[GROUP * 64 + 2], count = 0, last = n / 64;
    word[last] |= 1ull << (n % 64); /* a space is taken in before the end, too */
    for (size_t block = 0; block <= last;) {
        size_t end = last - block < GROUP ? last + 1 : block + GROUP;
        for (; block < end; block++) {
            uint64_t w = word[block], next = w >> 1 | word[block + 1] << 63, previous = w << 1 | last_bit;
            last_bit = w >> 63;
            uint64_t taken = scratch->space[block] & previous & next;
            uint64_t bits = (w & ~previous) | (~w & ~taken & previous);
            if (block == 0) bits |= 1;
            if (block == last) bits &= (1ull << (n % 64)) - 1;
            for (; bits; bits &= bits - 1) starts[count++] = block * 64 + (size_t)__builtin_ctzll(bits);
        }
        if (block > last) starts[count++] = n;
        count--; /* the last one is only where a token ends, so far */
        for (size_t token = 0; token < count; token++) {
            if (out->count > stop) return;
            size_t from = starts[token], length = starts[token + 1] - from;
            uint32_t id = length <= WHOLE ? whole_id(self, text + from, length) : 0;
            if (id) {
                out->ids[out->count++] = (int32_t)id;
                continue;
            }
            if (text[from + length - 1] == ' ' && bit(word, from)) text[from + length - 1] = TAKEN;
            cut(self, text + from, length, stop, out);
        }
        starts[0] = starts[count];
        count = 1;
    }
}

/* The length of the reserved subword that the text has here, 0 for none. */
static inline size_t reserved_at(const Encoder *self, const uint8_t *text, size_t at, size_t n) {
    uint32_t id;
    return self->reserved_starts[text[at]] ? longest_key(&self->reserved, text + at, n - at, &id) : 0;
}

static int has_reserved(const Encoder *self, const uint8_t *text, size_t n) {
    for (size_t at = 0; at < n; at++)
        if (reserved_at(self, text, at, n)) return 1;
    return 0;
}

/* The end of the run that begins at `at`; a reserved subword is a run of its own. */
static size_t run_end(const Encoder *self, const Scratch *scratch, size_t at, size_t n) {
    size_t reserved = reserved_at(self, scratch->text, at, n), end = at + 1;
    if (reserved) return at + reserved;
    while (end < n && bit(scratch->word, end) == bit(scratch->word, at) && !reserved_at(self, scratch->text, end, n)) {
        STEP();
        end++;
    }
    return end;
}

/* The run as a token, its underscores escaped, in the scratch's buffer, which gets room for one byte more. */
static int escape(Scratch *scratch, size_t from, size_t to, size_t *length) {
    size_t needed = to - from, filled = 0;
    for (size_t at = from; at < to; at++)
        if (scratch->text[at] == '_') needed += UNDERSCORE_LENGTH - 1;
    if (needed >= scratch->token_room) {
        if (needed > SIZE_MAX / 4) return NO_MEMORY;
        size_t room = needed + 1 + SPARE(needed);
        uint8_t *token = resized(scratch->token, room, 1);
        if (!token) return NO_MEMORY;
        scratch->token = token;
        scratch->token_room = room;
    }
    for (size_t at = from; at < to; at++) {
        if (scratch->text[at] == '_') {
            memcpy(scratch->token + filled, UNDERSCORE, UNDERSCORE_LENGTH);
            filled += UNDERSCORE_LENGTH;
        } else {
            scratch->token[filled++] = scratch->text[at];
        }
    }
    *length = filled;
    return 0;
}

/* Any text, run by run, as Vocabulary._tokens does it. */
static int encode_any(const Encoder *self, Scratch *scratch, size_t n, size_t stop, Ids *out) {
    const uint8_t *text = scratch->text;
    size_t to = run_end(self, scratch, 0, n);
    int taken_in = 0; /* the run at hand is a space that went with the one before */
    for (size_t from = 0; from < n && out->count <= stop;) {
        size_t next = to < n ? run_end(self, scratch, to, n) : n;
        int before_space = next == to + 1 && text[to] == ' ';
        if (taken_in) {
            taken_in = 0;
        } else {
            size_t length, skipped = 0;
            if (escape(scratch, from, to, &length)) return NO_MEMORY;
            taken_in = before_space;
            if (to - from == UNDERSCORE_LENGTH && !memcmp(text + from, UNDERSCORE, UNDERSCORE_LENGTH)) {
                skipped = 2;  /* the text's own: cut in two, lest it be read as an underscore */
                taken_in = 0; /* and tfds encodes that space once more */
            }
            if (before_space) scratch->token[length++] = TAKEN;
            size_t left = stop - out->count;
            if (reserve_ids(out, (left < length ? left : length) + 4)) return NO_MEMORY;
            if (skipped) cut(self, scratch->token, skipped, stop, out);
            cut(self, scratch->token + skipped, length - skipped, stop, out);
        }
        from = to;
        to = next;
    }
    return 0;
}

/* Appends the ids of one text, `limit` of them at most. 1: there were more; 0: not; NO_MEMORY. */
static int encode(const Encoder *self, const Text *text, Scratch *scratch, Ids *out) {
    /* What stands beyond cannot change the ids up to the limit: an id stands for `longest` characters at most, and which it is
       depends on no more than the `longest` and two characters behind it. */
    size_t length = text->length, limit = self->limit;
    if (length / self->longest > limit && length / self->longest - limit > 4) length = (limit + 4) * self->longest;
    if (!length) return 0;
    if (scratch_room(scratch, utf8_room(text, length) / 64 + 1)) return NO_MEMORY;
    size_t n = to_utf8(text, length, scratch->text);
    if (reserve_ids(out, limit < n ? limit + 4 : n)) return NO_MEMORY;
    size_t stop = out->count + limit; /* both are at most PY_SSIZE_T_MAX */
    int rare = classify(scratch, n);
    if (rare & HAS_UNDERSCORE || ((rare & HAS_BACKSLASH || !self->reserved_have_backslashes) &&
                                  has_reserved(self, scratch->text, n))) {
        if (encode_any(self, scratch, n, stop, out)) return NO_MEMORY;
    } else {
        encode_usual(self, scratch, n, stop, out);
    }
    if (out->count <= stop) return 0;
    out->count = stop;
    return 1;
}

/* ---- Python's side: rows */

typedef struct {
    size_t from, tokens;
    int truncated;
} Row;

typedef struct {
    PyObject_HEAD
    int32_t *ids; /* of all rows, one after the other */
    Row *rows;
    Py_ssize_t count;
    Py_ssize_t truncated; /* rows that were cut */
    PyObject *tokens;     /* a tuple of ints, one for each row */
} Rows;

static void rows_dealloc(PyObject *object) {
    Rows *self = (Rows *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyMem_RawFree(self->ids);
    PyMem_RawFree(self->rows);
    Py_XDECREF(self->tokens);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *rows_get_tokens(PyObject *self, void *Py_UNUSED(unused)) { return Py_NewRef(((Rows *)self)->tokens); }

static PyObject *rows_get_truncated(PyObject *self, void *Py_UNUSED(unused)) {
    return PyLong_FromSsize_t(((Rows *)self)->truncated);
}

/* The row of an index. NULL: there is none, and an exception is set. */
static const Row *row_at(const Rows *self, PyObject *index) {
    Py_ssize_t number = PyNumber_AsSsize_t(index, PyExc_IndexError);
    if (number == -1 && PyErr_Occurred()) return NULL;
    if (number >= 0 && number < self->count) return &self->rows[number];
    PyErr_Format(PyExc_IndexError, "row %zd of %zd", number, self->count);
    return NULL;
}

static PyObject *rows_is_truncated(PyObject *self, PyObject *index) {
    const Row *row = row_at((Rows *)self, index);
    return row ? PyBool_FromLong(row->truncated) : NULL;
}

/* Writes `count` elements of `width` bytes that all are `element`. */
static void fill(char *to, size_t count, const char *element, size_t width, int zeros) {
    if (zeros) {
        memset(to, 0, count * width);
        return;
    }
    for (size_t n = 0; n < count; n++) memcpy(to + n * width, element, width);
}

static void write_ids(char *to, const int32_t *ids, size_t count, int kind) {
    if (kind == 'i') {
        if (count) memcpy(to, ids, count * 4);
    } else if (kind == 'q') {
        for (size_t n = 0; n < count; n++) {
            int64_t id = ids[n];
            memcpy(to + n * 8, &id, 8);
        }
    } else {
        for (size_t n = 0; n < count; n++) {
            float id = (float)ids[n];
            memcpy(to + n * 4, &id, 4);
        }
    }
}

static PyObject *rows_padded(PyObject *object, PyObject *arguments) {
    Rows *self = (Rows *)object;
    PyObject *indexes, *content = NULL;
    const char *padding;
    Py_ssize_t length, width;
    int kind;
    if (!PyArg_ParseTuple(arguments, "OnCy#:padded", &indexes, &length, &kind, &padding, &width)) return NULL;
    if (length < 0) return PyErr_Format(PyExc_ValueError, "rows of %zd tokens", length);
    if ((kind != 'i' && kind != 'q' && kind != 'f') || width != (kind == 'q' ? 8 : 4))
        return PyErr_Format(PyExc_ValueError, "ids are i, q or f, and the padding is one of them");
    indexes = PySequence_Tuple(indexes); /* a list could change meanwhile */
    if (!indexes) return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(indexes);
    const Row **chosen = resized(NULL, (size_t)count, sizeof *chosen);
    if (!chosen) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t n = 0; n < count; n++) {
        if (!(chosen[n] = row_at(self, PyTuple_GET_ITEM(indexes, n)))) goto done;
        if (chosen[n]->tokens > (size_t)length) {
            PyErr_Format(PyExc_ValueError, "a row of %zu tokens does not fit into %zd", chosen[n]->tokens, length);
            goto done;
        }
    }
    size_t row_bytes, total;
    if (__builtin_mul_overflow((size_t)length, (size_t)width, &row_bytes) ||
        __builtin_mul_overflow(row_bytes, (size_t)count, &total) || total > (size_t)PY_SSIZE_T_MAX) {
        PyErr_NoMemory();
        goto done;
    }
    content = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)total);
    if (!content) goto done;
    char *to = PyBytes_AS_STRING(content);
    int zeros = 1;
    for (Py_ssize_t n = 0; n < width; n++) zeros &= !padding[n];
    PyThreadState *state = total >= WORTH_RELEASING_BYTES ? PyEval_SaveThread() : NULL;
    for (Py_ssize_t n = 0; n < count; n++, to += row_bytes) {
        const Row *row = chosen[n];
        write_ids(to, self->ids + row->from, row->tokens, kind);
        fill(to + row->tokens * (size_t)width, (size_t)length - row->tokens, padding, (size_t)width, zeros);
    }
    if (state) PyEval_RestoreThread(state);
done:
    PyMem_RawFree(chosen);
    Py_DECREF(indexes);
    return content;
}

static Py_ssize_t rows_length(PyObject *self) { return ((Rows *)self)->count; }

static PyMethodDef rows_methods[] = {
    {"is_truncated", rows_is_truncated, METH_O, "Whether this row was cut to the limit."},
    {"padded", rows_padded, METH_VARARGS,
     "padded(indexes, length, kind, padding): these rows as bytes, each of `length` ids of kind i, q or f (struct's names)."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef rows_getset[] = {
    {"tokens", rows_get_tokens, NULL, "How many ids each row has.", NULL},
    {"truncated", rows_get_truncated, NULL, "How many rows were cut to the limit.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot rows_slots[] = {
    {Py_tp_dealloc, rows_dealloc},
    {Py_tp_methods, rows_methods},
    {Py_tp_getset, rows_getset},
    {Py_sq_length, rows_length},
    {Py_tp_doc, "The ids of a window's texts."},
    {0, NULL},
};
static PyType_Spec rows_spec = {
    .name = "worker.text._subwords.Rows",
    .basicsize = sizeof(Rows),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = rows_slots,
};

/* ---- Python's side: the encoder */

typedef struct {
    PyTypeObject *rows_type;
} State;

static int take_text(PyObject *str, Text *text) {
    if (!PyUnicode_Check(str)) {
        PyErr_Format(PyExc_TypeError, "a text is a str, not %.100s", Py_TYPE(str)->tp_name);
        return -1;
    }
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_READY(str)) return -1;
#endif
    text->data = PyUnicode_DATA(str);
    text->length = (size_t)PyUnicode_GET_LENGTH(str);
    text->kind = PyUnicode_IS_ASCII(str) ? 0 : (int)PyUnicode_KIND(str);
    return 0;
}

/* Encodes the texts into the rows. Needs no lock. */
static int encode_texts(const Encoder *self, const Text *texts, size_t characters, Rows *rows) {
    Ids ids = {0};
    Scratch scratch = {0};
    int failed = reserve_ids(&ids, SPARE(characters / 3 + 64));
    for (Py_ssize_t n = 0; n < rows->count && !failed; n++) {
        size_t before = ids.count;
        int more = encode(self, &texts[n], &scratch, &ids);
        rows->rows[n] = (Row){before, ids.count - before, more == 1};
        rows->truncated += more == 1;
        failed = more == NO_MEMORY;
    }
    scratch_free(&scratch);
    int32_t *fitting = failed ? NULL : resized(ids.ids, ids.count, sizeof *ids.ids);
    rows->ids = fitting ? fitting : ids.ids;
    return failed;
}

static PyObject *tokens_of(const Rows *rows) {
    PyObject *tokens = PyTuple_New(rows->count);
    for (Py_ssize_t n = 0; tokens && n < rows->count; n++) {
        PyObject *number = PyLong_FromSize_t(rows->rows[n].tokens);
        if (!number) Py_CLEAR(tokens);
        else PyTuple_SET_ITEM(tokens, n, number);
    }
    return tokens;
}

static PyObject *encoder_encode_many(PyObject *object, PyObject *given) {
    Encoder *self = (Encoder *)object;
    State *module = PyType_GetModuleState(Py_TYPE(object));
    PyObject *texts = module ? PySequence_Tuple(given) : NULL; /* holds the strs: a list could change meanwhile */
    if (!texts) return NULL;
    size_t count = (size_t)PyTuple_GET_SIZE(texts), characters = 0;
    Rows *rows = (Rows *)module->rows_type->tp_alloc(module->rows_type, 0);
    Text *taken = resized(NULL, count, sizeof *taken);
    int failed = !rows || !taken || !(rows->rows = resized(NULL, count, sizeof *rows->rows)) ? NO_MEMORY : 0;
    if (failed) {
        PyErr_NoMemory();
        goto done;
    }
    rows->count = (Py_ssize_t)count;
    for (size_t n = 0; n < count; n++) {
        if ((failed = take_text(PyTuple_GET_ITEM(texts, (Py_ssize_t)n), &taken[n]))) goto done;
        /* Repeated strs count each time, so the sum could wrap; then there is no memory for the ids either. */
        if (__builtin_add_overflow(characters, taken[n].length, &characters)) characters = SIZE_MAX;
    }
    PyThreadState *state = characters >= WORTH_RELEASING_CHARACTERS ? PyEval_SaveThread() : NULL;
    failed = encode_texts(self, taken, characters, rows);
    if (state) PyEval_RestoreThread(state);
    if (failed) PyErr_NoMemory();
    else if (!(rows->tokens = tokens_of(rows))) failed = -1;
done:
    PyMem_RawFree(taken);
    Py_DECREF(texts);
    if (failed) Py_CLEAR(rows);
    return (PyObject *)rows;
}

static void encoder_dealloc(PyObject *object) {
    Encoder *self = (Encoder *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyMem_RawFree(self->subwords.nodes);
    PyMem_RawFree(self->reserved.nodes);
    PyMem_RawFree(self->whole);
    type->tp_free(object);
    Py_DECREF(type);
}

/* Whether word characters and others are in it. */
static int mixed(const uint8_t *bytes, size_t length) {
    int words = 0, others = 0;
    for (size_t at = 0; at < length;) {
        Py_UCS4 code;
        at += decode(bytes + at, &code);
        if (is_word(code)) words = 1;
        else others = 1;
    }
    return words && others;
}

/* Enters one subword: into the hash, or among the reserved ones; `own` becomes its key in the trie. */
static void add_subword(Encoder *self, const Key *key, uint8_t *own, Key *reserved, size_t *reserved_count) {
    size_t last = key->length - 1;
    memcpy(own, key->bytes, key->length);
    if (mixed(own, key->length)) { /* looked for in the text as it stands there */
        reserved[(*reserved_count)++] = *key;
        if (!memchr(own, '\\', key->length)) self->reserved_have_backslashes = 0;
    } else if (key->length <= WHOLE && !(key->length == 1 && own[0] == '_')) {
        if (own[last] == '_') own[last] = ' '; /* what it takes in, in a text */
        whole_put(self, own, key->length, key->id);
    }
    if (key->bytes[last] == '_') own[last] = TAKEN;
}

static int make_whole(Encoder *self, size_t count) {
    unsigned bits = 8;
    while (((size_t)1 << bits) < count * 2) bits++;
    self->whole_shift = 64 - bits;
    self->whole_mask = ((size_t)1 << bits) - 1;
    self->whole = PyMem_RawCalloc(self->whole_mask + 1, sizeof *self->whole);
    return self->whole ? 0 : NO_MEMORY;
}

/* The tables of these keys (in the order of their ids; `total` bytes). 0, NO_MEMORY or TOO_LARGE. */
static int make_tables(Encoder *self, Key *keys, size_t count, size_t total) {
    size_t reserved_count = 1;
    uint8_t *own = resized(NULL, total, 1), *to = own;
    Key *reserved = resized(NULL, count + 1, sizeof *reserved);
    int failed = own && reserved ? make_whole(self, count) : NO_MEMORY;
    if (failed) goto done;
    reserved[0] = (Key){(const uint8_t *)UNDERSCORE, UNDERSCORE_LENGTH, 1};
    self->reserved_have_backslashes = 1;
    for (size_t n = 0; n < count; n++) {
        add_subword(self, &keys[n], to, reserved, &reserved_count);
        keys[n].bytes = to;
        to += keys[n].length;
    }
    /* The escaped underscore is a subword whose id is that of the byte, higher than any other's: it wins over an equal one. */
    keys[count] = (Key){(const uint8_t *)UNDERSCORE, UNDERSCORE_LENGTH, self->first_byte + '_'};
    for (size_t n = 0; n < reserved_count; n++) self->reserved_starts[reserved[n].bytes[0]] = 1;
    qsort(keys, count + 1, sizeof *keys, compare_keys);
    qsort(reserved, reserved_count, sizeof *reserved, compare_keys);
    failed = build_trie(&self->subwords, keys, count + 1);
    if (!failed) failed = build_trie(&self->reserved, reserved, reserved_count);
done:
    PyMem_RawFree(own);
    PyMem_RawFree(reserved);
    return failed;
}

static PyObject *encoder_new(PyTypeObject *type, PyObject *arguments, PyObject *named) {
    static char *names[] = {"subwords", "limit", NULL};
    PyObject *subwords;
    Py_ssize_t limit;
    if (!PyArg_ParseTupleAndKeywords(arguments, named, "On:Encoder", names, &subwords, &limit)) return NULL;
    if (limit < 0) return PyErr_Format(PyExc_ValueError, "a limit of %zd tokens", limit);
    subwords = PySequence_Tuple(subwords); /* holds the strs, and they their UTF-8 */
    if (!subwords) return NULL;
    size_t count = (size_t)PyTuple_GET_SIZE(subwords), total = 1;
    int failed = count > MOST_SUBWORDS ? TOO_LARGE : 0;
    Key *keys = failed ? NULL : resized(NULL, count + 1, sizeof *keys);
    Encoder *self = keys ? (Encoder *)type->tp_alloc(type, 0) : NULL;
    if (!failed && !self) failed = NO_MEMORY;
    if (failed) goto done;
    self->limit = (size_t)limit;
    self->first_byte = (uint32_t)count + 1;
    self->longest = UNDERSCORE_LENGTH;
    for (size_t n = 0; n < count; n++) {
        PyObject *subword = PyTuple_GET_ITEM(subwords, (Py_ssize_t)n);
        Py_ssize_t length = 0;
        const char *bytes = PyUnicode_Check(subword) ? PyUnicode_AsUTF8AndSize(subword, &length) : NULL;
        if (!length && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a subword is a str that is not empty");
        if (PyErr_Occurred()) {
            Py_CLEAR(self);
            goto done;
        }
        keys[n] = (Key){(const uint8_t *)bytes, (size_t)length, (uint32_t)n + 1};
        if (PyUnicode_GET_LENGTH(subword) > (Py_ssize_t)self->longest)
            self->longest = (size_t)PyUnicode_GET_LENGTH(subword);
        if (__builtin_add_overflow(total, (size_t)length, &total)) failed = NO_MEMORY;
    }
    if (!failed) failed = make_tables(self, keys, count, total);
done:
    PyMem_RawFree(keys);
    Py_DECREF(subwords);
    if (!failed) return (PyObject *)self;
    Py_CLEAR(self);
    if (failed == TOO_LARGE) return PyErr_Format(PyExc_ValueError, "%zu subwords are too many for this encoder", count);
    return PyErr_NoMemory();
}

static PyMethodDef encoder_methods[] = {
    {"encode_many", encoder_encode_many, METH_O, "The rows of these texts."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot encoder_slots[] = {
    {Py_tp_new, encoder_new},
    {Py_tp_dealloc, encoder_dealloc},
    {Py_tp_methods, encoder_methods},
    {Py_tp_doc, "Encoder(subwords, limit): texts to ids, `limit` a text at most."},
    {0, NULL},
};
static PyType_Spec encoder_spec = {
    .name = "worker.text._subwords.Encoder",
    .basicsize = sizeof(Encoder),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = encoder_slots,
};

/* ---- the module */

static int module_exec(PyObject *module) {
    State *state = PyModule_GetState(module);
    PyObject *encoder_type = PyType_FromModuleAndSpec(module, &encoder_spec, NULL);
    state->rows_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &rows_spec, NULL);
    int failed = !encoder_type || !state->rows_type || PyModule_AddType(module, (PyTypeObject *)encoder_type) ||
                 PyModule_AddType(module, state->rows_type);
    Py_XDECREF(encoder_type);
    return failed ? -1 : 0;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    Py_VISIT(((State *)PyModule_GetState(module))->rows_type);
    return 0;
}

static int module_clear(PyObject *module) {
    Py_CLEAR(((State *)PyModule_GetState(module))->rows_type);
    return 0;
}

static void module_free(void *module) { module_clear(module); }

#ifdef COUNT_STEPS
static PyObject *take_steps(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(nothing)) {
    unsigned long long taken = steps;
    steps = 0;
    return PyLong_FromUnsignedLongLong(taken);
}
#endif

static PyMethodDef module_methods[] = {
#ifdef COUNT_STEPS
    {"take_steps", take_steps, METH_NOARGS, "The steps since the last call."},
#endif
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};
static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_subwords",
    .m_doc = "The compiled subword encoder; worker.text.compiled is its door.",
    .m_size = sizeof(State),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__subwords(void) { return PyModuleDef_Init(&module_def); }
