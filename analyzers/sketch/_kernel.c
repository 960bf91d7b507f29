/* The fast half of the sketch, counts of 16-bit codes and sums of squares, and of the comparison of two layers weight by
 * weight: each in one pass over cache-sized tiles.
 *
 * _kernel_numpy.py is the specification; a test holds the two to equal counts. Everything here works on buffers that
 * the caller owns, keeps no state, and runs without the GIL. Loads go through memcpy, so no alignment is assumed:
 * a safetensors header may have any length.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "checkpoints are little-endian and so is this kernel; without it the NumPy kernel is used"
#endif

/* One binary serves every x86-64 machine: glibc's loader picks the widest vectors that the processor has. Sanitisers
 * run before the loader has resolved anything, so they get the plain function. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(JAYNES_ONE_TARGET)
#define WIDEST_VECTORS __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define WIDEST_VECTORS
#endif

enum { CODES = 65536, TABLES = 2, TILE = 2048, TILE_ROWS = 8, LANES = 32 };
enum { SIGN_BIT = 0x8000, CELL_CODES = 4, CELLS = SIGN_BIT / CELL_CODES, CELL_WORDS = CELLS / 64 };
enum { BF16, F16, F32, KINDS, F64 = KINDS, PAIRED_KINDS };

static const Py_ssize_t ITEM_BYTES[KINDS] = {2, 2, 4};
static const Py_ssize_t MAX_LENGTH = PY_SSIZE_T_MAX / 64; /* of an axis: no size computed here can overflow */

/* What 16-bit codes cannot tell of float32 weights. */
typedef struct {
    uint32_t largest;    /* greatest finite magnitude, as bits */
    uint32_t low_bits;   /* all lower halves of the finite weights, or-ed together */
    uint64_t max_finite; /* how many weights are +-FLT_MAX exactly */
} Float32Facts;

/* Stored weights have no alignment that can be relied on. Loops over them count in Py_ssize_t: where Python's own flags
 * have -fwrapv, an index of 32 bits keeps the vectoriser away and makes this kernel three times slower. */
typedef uint16_t Half __attribute__((aligned(1), may_alias));
typedef uint32_t Single __attribute__((aligned(1), may_alias));

static inline float as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* These three give 0 for what is not finite: one NaN must not hide a whole row. Written without a branch, for the
 * vectoriser. */
static inline uint32_t all_ones_if(int condition) { return (uint32_t)0 - (uint32_t)condition; }

static inline float finite_bf16(uint32_t code) {
    uint32_t bits = code << 16;
    return as_float(bits & all_ones_if((bits & 0x7F800000u) != 0x7F800000u));
}

static inline float finite_f16(uint32_t code) {
    uint32_t finite = all_ones_if((code & 0x7C00u) != 0x7C00u);
    /* 2^112 moves the exponent's bias from 15 to 127, subnormals included. */
    return as_float(((code & 0x7FFFu) << 13) & finite) * 0x1p112f;
}

static inline float finite_f32(uint32_t bits) {
    return as_float(bits & all_ones_if((bits & 0x7F800000u) != 0x7F800000u));
}

/* Squares of one row of a tile: added to the columns' sums, and their own sum given back. A float32 square is exact in
 * double, so fused and separate multiply-add give the same sums. */
#define DEFINE_ADD_SQUARES(NAME, ITEM, FINITE)                                                   \
    WIDEST_VECTORS static double NAME(const ITEM *restrict stored, Py_ssize_t n, double *restrict columns) { \
        double lanes[LANES] = {0};                                                               \
        float values[LANES];                                                                     \
        double sum = 0;                                                                          \
        Py_ssize_t i = 0;                                                                        \
        for (; i + LANES <= n; i += LANES) {                                                     \
            for (int k = 0; k < LANES; k++) values[k] = FINITE(stored[i + k]);                   \
            for (int k = 0; k < LANES; k++) {                                                    \
                double square = (double)values[k] * (double)values[k];                           \
                lanes[k] += square;                                                              \
                columns[i + k] += square;                                                        \
            }                                                                                    \
        }                                                                                        \
        for (int k = 0; k < LANES; k++) sum += lanes[k];                                         \
        for (; i < n; i++) {                                                                     \
            double value = FINITE(stored[i]);                                                    \
            sum += value * value;                                                                \
            columns[i] += value * value;                                                         \
        }                                                                                        \
        return sum;                                                                              \
    }

DEFINE_ADD_SQUARES(add_squares_bf16, Half, finite_bf16)
DEFINE_ADD_SQUARES(add_squares_f16, Half, finite_f16)
DEFINE_ADD_SQUARES(add_squares_f32, Single, finite_f32)

/* The upper half of each float32, with two corrections that keep zero and NaN exact: a non-zero weight never gets
 * the code of zero, and a NaN whose payload lies in the lower half never gets the code of infinity. */
WIDEST_VECTORS static void upper_halves(const Single *restrict bits, Py_ssize_t n, uint16_t *restrict codes,
                                        Float32Facts *facts) {
    uint32_t largest = 0, low_bits = 0, max_finite = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        uint32_t magnitude = bits[i] & 0x7FFFFFFFu;
        uint32_t finite = (uint32_t)0 - (uint32_t)(magnitude < 0x7F800000u);
        uint32_t code = bits[i] >> 16;
        code |= (uint32_t)(magnitude - 1u < 0xFFFFu);
        code |= (uint32_t)(magnitude > 0x7F800000u) << 6;
        codes[i] = (uint16_t)code;
        low_bits |= bits[i] & 0xFFFFu & finite;
        magnitude &= finite;
        largest = magnitude > largest ? magnitude : largest;
        max_finite += (uint32_t)(magnitude == 0x7F7FFFFFu);
    }
    facts->largest = largest > facts->largest ? largest : facts->largest;
    facts->low_bits |= low_bits;
    facts->max_finite += max_finite;
}

/* Two tables, because an increment that follows another of the same code waits for it. */
static void count_codes(const Half *restrict codes, Py_ssize_t n, uint32_t *restrict tables) {
    uint32_t *even = tables, *odd = tables + CODES;
    Py_ssize_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t a, b; /* four codes in one load */
        memcpy(&a, codes + i, 8);
        memcpy(&b, codes + i + 4, 8);
        even[a & 0xFFFF]++;
        odd[(a >> 16) & 0xFFFF]++;
        even[(a >> 32) & 0xFFFF]++;
        odd[a >> 48]++;
        even[b & 0xFFFF]++;
        odd[(b >> 16) & 0xFFFF]++;
        even[(b >> 32) & 0xFFFF]++;
        odd[b >> 48]++;
    }
    for (; i < n; i++) even[codes[i]]++;
}

/* Which codes and which cells have occurred, one bit each. */
typedef struct {
    uint64_t codes[CODES / 64]; /* in the layer */
    uint64_t cells[CELL_WORDS]; /* in the row block */
} Marks;

static void mark(const Half *codes, Py_ssize_t n, Marks *marks) {
    for (Py_ssize_t i = 0; i < n; i++) {
        uint32_t cell = (codes[i] & (SIGN_BIT - 1)) / CELL_CODES;
        marks->codes[codes[i] >> 6] |= (uint64_t)1 << (codes[i] & 63);
        marks->cells[cell >> 6] |= (uint64_t)1 << (cell & 63);
    }
}

typedef struct {
    int kind;
    uint32_t *tables;
    Marks *marks;       /* NULL: do not mark what occurs */
    double *rows;       /* NULL: no sums of squares are wanted */
    double *columns;
    Float32Facts facts;
} Pass;

static double add_squares(int kind, const void *stored, Py_ssize_t n, double *columns) {
    switch (kind) {
    case BF16: return add_squares_bf16(stored, n, columns);
    case F16: return add_squares_f16(stored, n, columns);
    default: return add_squares_f32(stored, n, columns);
    }
}

static void tile(Pass *pass, const void *stored, Py_ssize_t n, double *row, double *columns) {
    uint16_t halves[TILE];
    const Half *codes = stored;
    if (row) *row += add_squares(pass->kind, stored, n, columns);
    if (pass->kind == F32) {
        upper_halves(stored, n, halves, &pass->facts);
        codes = halves;
    }
    count_codes(codes, n, pass->tables);
    if (pass->marks) mark(codes, n, pass->marks);
}

static void rows_of_tiles(Pass *pass, const unsigned char *stored, Py_ssize_t rows, Py_ssize_t columns) {
    Py_ssize_t item = ITEM_BYTES[pass->kind];
    if (!columns) return; /* else nothing would be done for each of up to 2^57 rows */
    for (Py_ssize_t top = 0; top < rows; top += TILE_ROWS) {
        Py_ssize_t bottom = rows - top < TILE_ROWS ? rows : top + TILE_ROWS;
        for (Py_ssize_t left = 0; left < columns; left += TILE) {
            Py_ssize_t width = columns - left < TILE ? columns - left : TILE;
            for (Py_ssize_t row = top; row < bottom; row++)
                tile(pass, stored + (row * columns + left) * item, width, pass->rows ? pass->rows + row : NULL,
                     pass->columns ? pass->columns + left : NULL);
        }
    }
}

/* Counts on their way out: parallel arrays that the caller made large enough. */
typedef struct {
    uint16_t *codes;
    int64_t *tallies;
    Py_ssize_t length;
} Entries;

static int64_t take(uint32_t *tables, Py_ssize_t code) {
    int64_t tally = (int64_t)tables[code] + tables[CODES + code];
    tables[code] = tables[CODES + code] = 0;
    return tally;
}

static void append(Entries *entries, Py_ssize_t code, int64_t tally) {
    entries->codes[entries->length] = (uint16_t)code;
    entries->tallies[entries->length++] = tally;
}

static void drain_all(uint32_t *tables, Entries *entries) {
    for (Py_ssize_t start = 0; start < CODES; start += LANES) {
        uint32_t any = 0;
        for (int k = 0; k < LANES; k++) any |= tables[start + k] | tables[CODES + start + k];
        for (int k = 0; any && k < LANES; k++) {
            int64_t tally = take(tables, start + k);
            if (tally) append(entries, start + k, tally);
        }
    }
}

/* The codes of a small layer are few among 65,536: a bitmap finds them without a look at every counter. */
static void drain_marked(uint32_t *tables, const uint64_t *bitmap, Entries *entries) {
    for (Py_ssize_t word = 0; word < CODES / 64; word++)
        for (uint64_t left = bitmap[word]; left; left &= left - 1) {
            Py_ssize_t code = word * 64 + __builtin_ctzll(left);
            append(entries, code, take(tables, code));
        }
}

/* Cells are four neighbouring magnitudes, signs folded: fine enough for the spread between row blocks. */
static int64_t cell_tally(const uint32_t *tables, Py_ssize_t cell) {
    int64_t tally = 0;
    for (Py_ssize_t table = 0; table < TABLES * CODES; table += SIGN_BIT)
        for (int k = 0; k < CELL_CODES; k++) tally += tables[table + cell * CELL_CODES + k];
    return tally;
}

static void fold_all(const uint32_t *restrict tables, int64_t *restrict cells) {
    for (Py_ssize_t cell = 0; cell < CELLS; cell++) cells[cell] = cell_tally(tables, cell);
}

/* What the marked cells have gained since the block before. */
static void append_cells(const uint32_t *tables, const uint64_t *bitmap, int64_t *before, Entries *entries) {
    for (Py_ssize_t word = 0; word < CELL_WORDS; word++)
        for (uint64_t left = bitmap[word]; left; left &= left - 1) {
            Py_ssize_t cell = word * 64 + __builtin_ctzll(left);
            int64_t tally = cell_tally(tables, cell);
            append(entries, cell * CELL_CODES, tally - before[cell]);
            before[cell] = tally;
        }
}

/* The finite non-zero codes of one sign: they lie between two places of a rising list. */
static Py_ssize_t first_at_least(const uint16_t *codes, Py_ssize_t length, uint32_t bound) {
    Py_ssize_t low = 0, high = length;
    while (low < high) {
        Py_ssize_t middle = low + (high - low) / 2;
        if (codes[middle] < bound) low = middle + 1;
        else high = middle;
    }
    return low;
}

static Py_ssize_t merge_signs(const uint16_t *codes, const int64_t *tallies, Py_ssize_t length, uint32_t not_finite,
                              int64_t *magnitudes, int64_t *merged) {
    Py_ssize_t i = first_at_least(codes, length, 1), last_i = first_at_least(codes, length, not_finite);
    Py_ssize_t j = first_at_least(codes, length, SIGN_BIT + 1);
    Py_ssize_t last_j = first_at_least(codes, length, SIGN_BIT + not_finite), at = 0;
    for (; i < last_i || j < last_j; at++) {
        uint32_t positive = i < last_i ? codes[i] : CODES;
        uint32_t negative = j < last_j ? codes[j] - SIGN_BIT : CODES;
        magnitudes[at] = positive < negative ? positive : negative;
        merged[at] = 0;
        if (positive <= negative) merged[at] += tallies[i++];
        if (negative <= positive) merged[at] += tallies[j++];
    }
    return at;
}

/* ---- two layers, weight by weight ---- */

enum { PAIRS = 1024, PAIR_LANES = 32 }; /* two tiles of doubles stay in the first-level cache */

static const Py_ssize_t PAIRED_ITEM_BYTES[PAIRED_KINDS] = {2, 2, 4, 8};

/* How the weights of two chunks differ, in the order of PAIRING in _kernel_numpy.py. */
typedef struct {
    double squares_a, squares_b, squares_of_change, products;
    double largest;
    int64_t largest_at, changed, not_finite, other_bytes;
} Pairing;

WIDEST_VECTORS static void widen_bf16(const Half *restrict stored, Py_ssize_t n, double *restrict values) {
    for (Py_ssize_t i = 0; i < n; i++) values[i] = as_float((uint32_t)stored[i] << 16);
}

WIDEST_VECTORS static void widen_f16(const Half *restrict stored, Py_ssize_t n, double *restrict values) {
    for (Py_ssize_t i = 0; i < n; i++) {
        uint32_t code = stored[i], bits;
        uint32_t not_finite = all_ones_if((code & 0x7C00u) == 0x7C00u) & 0x7F800000u;
        float magnitude = as_float((code & 0x7FFFu) << 13) * 0x1p112f; /* as in finite_f16 */
        memcpy(&bits, &magnitude, 4);
        values[i] = as_float(bits | not_finite | (code & 0x8000u) << 16);
    }
}

WIDEST_VECTORS static void widen_f32(const Single *restrict stored, Py_ssize_t n, double *restrict values) {
    for (Py_ssize_t i = 0; i < n; i++) values[i] = as_float(stored[i]);
}

static void widen(int kind, const unsigned char *stored, Py_ssize_t n, double *values) {
    switch (kind) {
    case BF16: widen_bf16((const Half *)stored, n, values); return;
    case F16: widen_f16((const Half *)stored, n, values); return;
    case F32: widen_f32((const Single *)stored, n, values); return;
    default: memcpy(values, stored, (size_t)n * sizeof *values);
    }
}

/* Lanes keep the order of addition the same on every machine; so does -ffp-contract=off, as the change of two weights
 * has no exact square. */
WIDEST_VECTORS static void pair_whole_tile(const double *restrict a, const double *restrict b, Pairing *tile) {
    double squares_a[PAIR_LANES] = {0}, squares_b[PAIR_LANES] = {0}, squares_of_change[PAIR_LANES] = {0};
    double products[PAIR_LANES] = {0}, largest[PAIR_LANES] = {0};
    int64_t changed[PAIR_LANES] = {0};
    for (Py_ssize_t i = 0; i < PAIRS; i += PAIR_LANES)
        for (int k = 0; k < PAIR_LANES; k++) {
            double change = b[i + k] - a[i + k], magnitude = __builtin_fabs(change);
            squares_a[k] += a[i + k] * a[i + k];
            squares_b[k] += b[i + k] * b[i + k];
            squares_of_change[k] += change * change;
            products[k] += a[i + k] * b[i + k];
            largest[k] = magnitude > largest[k] ? magnitude : largest[k];
            changed[k] += a[i + k] != b[i + k];
        }
    for (int k = 0; k < PAIR_LANES; k++) {
        tile->squares_a += squares_a[k];
        tile->squares_b += squares_b[k];
        tile->squares_of_change += squares_of_change[k];
        tile->products += products[k];
        tile->largest = largest[k] > tile->largest ? largest[k] : tile->largest;
        tile->changed += changed[k];
    }
}

WIDEST_VECTORS static double squares_of_whole_tile(const double *values) {
    double lanes[PAIR_LANES] = {0}, sum = 0;
    for (Py_ssize_t i = 0; i < PAIRS; i += PAIR_LANES)
        for (int k = 0; k < PAIR_LANES; k++) lanes[k] += values[i + k] * values[i + k];
    for (int k = 0; k < PAIR_LANES; k++) sum += lanes[k];
    return sum;
}

static inline int is_finite(double value) { return __builtin_fabs(value) <= DBL_MAX; }

/* A change that only an infinity could hold counts as the greatest number. */
static inline double magnitude_of_change(double a, double b) {
    double magnitude = __builtin_fabs(b - a);
    return magnitude > DBL_MAX ? DBL_MAX : magnitude;
}

static void pair_with_care(const double *a, const double *b, Py_ssize_t n, Pairing *tile) {
    memset(tile, 0, sizeof *tile);
    for (Py_ssize_t i = 0; i < n; i++) {
        int finite_a = is_finite(a[i]), finite_b = is_finite(b[i]);
        tile->not_finite += finite_a != finite_b;
        tile->changed += a[i] != b[i] && (a[i] == a[i] || b[i] == b[i]);
        if (!finite_a || !finite_b) continue;
        double change = b[i] - a[i], magnitude = magnitude_of_change(a[i], b[i]);
        tile->squares_a += a[i] * a[i];
        tile->squares_b += b[i] * b[i];
        tile->squares_of_change += change * change;
        tile->products += a[i] * b[i];
        tile->largest = magnitude > tile->largest ? magnitude : tile->largest;
    }
}

static Py_ssize_t first_change_of(double largest, const double *a, const double *b) {
    Py_ssize_t i = 0;
    while (!(is_finite(a[i]) && is_finite(b[i]) && magnitude_of_change(a[i], b[i]) == largest)) i++;
    return i;
}

static void pair_tile(const double *a, const double *b, Py_ssize_t n, int64_t first, Pairing *pairing) {
    Pairing tile = {0};
    if (n == PAIRS && a == b) tile.squares_a = tile.squares_b = tile.products = squares_of_whole_tile(a);
    else if (n == PAIRS) pair_whole_tile(a, b, &tile);
    /* NaN and infinity show in the sums: finite sums are of finite weights alone. */
    if (n < PAIRS || !is_finite(tile.squares_a + tile.squares_b)) pair_with_care(a, b, n, &tile);
    pairing->squares_a += tile.squares_a;
    pairing->squares_b += tile.squares_b;
    pairing->squares_of_change += tile.squares_of_change;
    pairing->products += tile.products;
    pairing->changed += tile.changed;
    pairing->not_finite += tile.not_finite;
    if (tile.largest > pairing->largest) {
        pairing->largest = tile.largest;
        pairing->largest_at = first + first_change_of(tile.largest, a, b);
    }
}

static void pair_tiles(int kind_a, const unsigned char *a, int kind_b, const unsigned char *b, Py_ssize_t weights,
                       int64_t first, Pairing *pairing) {
    double values_a[PAIRS], values_b[PAIRS];
    pairing->other_bytes |= kind_a != kind_b;
    for (Py_ssize_t i = 0; i < weights; i += PAIRS) {
        Py_ssize_t n = weights - i < PAIRS ? weights - i : PAIRS;
        const unsigned char *of_a = a + i * PAIRED_ITEM_BYTES[kind_a], *of_b = b + i * PAIRED_ITEM_BYTES[kind_b];
        int same = kind_a == kind_b && !memcmp(of_a, of_b, (size_t)(n * PAIRED_ITEM_BYTES[kind_a]));
        widen(kind_a, of_a, n, values_a);
        if (!same) widen(kind_b, of_b, n, values_b);
        pairing->other_bytes |= !same;
        pair_tile(values_a, same ? values_a : values_b, n, first + i, pairing);
    }
}

/* ---- the border to Python: every size is checked before the GIL is released ---- */

typedef struct {
    Py_buffer buffers[9];
    int held;
} Buffers;

static void *borrow(Buffers *all, PyObject *object, int flags, Py_ssize_t bytes, const char *name) {
    Py_buffer *buffer = &all->buffers[all->held];
    if (PyObject_GetBuffer(object, buffer, flags) < 0) return NULL;
    all->held++;
    if (bytes >= 0 && buffer->len != bytes) {
        PyErr_Format(PyExc_ValueError, "%s holds %zd bytes and should hold %zd", name, buffer->len, bytes);
        return NULL;
    }
    return buffer->buf;
}

static void release(Buffers *all) {
    while (all->held) PyBuffer_Release(&all->buffers[--all->held]);
}

static int check_extent(Py_buffer *stored, int kind, Py_ssize_t rows, Py_ssize_t columns) {
    if (kind < 0 || kind >= KINDS || rows < 0 || columns < 0 || rows > MAX_LENGTH || columns > MAX_LENGTH) {
        PyErr_SetString(PyExc_ValueError, "kind, rows and columns must be valid");
        return -1;
    }
    Py_ssize_t items = stored->len / ITEM_BYTES[kind];
    if (stored->len % ITEM_BYTES[kind] || (columns ? items / columns != rows || items % columns : items)) {
        PyErr_Format(PyExc_ValueError, "%zd bytes are not %zd x %zd weights", stored->len, rows, columns);
        return -1;
    }
    return 0;
}

static int begin(Buffers *all, Pass *pass, int kind, PyObject *stored, Py_ssize_t rows, Py_ssize_t columns,
                 PyObject *tables, PyObject *row_squares, PyObject *column_squares, PyObject *facts,
                 Float32Facts **facts_out) {
    memset(pass, 0, sizeof *pass);
    pass->kind = kind;
    borrow(all, stored, PyBUF_SIMPLE, -2, "stored");
    if (PyErr_Occurred() || check_extent(&all->buffers[0], kind, rows, columns) < 0) return -1;
    pass->tables = borrow(all, tables, PyBUF_WRITABLE, TABLES * CODES * 4, "tables");
    if (!pass->tables) return -1;
    if (row_squares != Py_None) {
        pass->rows = borrow(all, row_squares, PyBUF_WRITABLE, rows * 8, "row_squares");
        if (!pass->rows) return -1;
        pass->columns = borrow(all, column_squares, PyBUF_WRITABLE, columns * 8, "column_squares");
        if (!pass->columns) return -1;
    }
    *facts_out = borrow(all, facts, PyBUF_WRITABLE, sizeof(Float32Facts), "facts");
    if (!*facts_out) return -1;
    pass->facts = **facts_out;
    return 0;
}

PyDoc_STRVAR(count_doc, "count(kind, stored, rows, columns, tables, row_squares, column_squares, facts)\n--\n\n"
                        "Add rows x columns weights to the tables of counts and to the sums of squares.");

static PyObject *count(PyObject *self, PyObject *args) {
    int kind;
    Py_ssize_t rows, columns;
    PyObject *stored, *tables, *row_squares, *column_squares, *facts;
    Buffers all = {.held = 0};
    Pass pass;
    Float32Facts *facts_out;
    (void)self;
    if (!PyArg_ParseTuple(args, "iOnnOOOO", &kind, &stored, &rows, &columns, &tables, &row_squares, &column_squares,
                          &facts))
        return NULL;
    if (begin(&all, &pass, kind, stored, rows, columns, tables, row_squares, column_squares, facts, &facts_out) < 0) {
        release(&all);
        return NULL;
    }
    const unsigned char *bytes = all.buffers[0].buf;
    Py_BEGIN_ALLOW_THREADS
    rows_of_tiles(&pass, bytes, rows, columns);
    Py_END_ALLOW_THREADS
    *facts_out = pass.facts;
    release(&all);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(drain_doc, "drain(tables, codes, tallies)\n--\n\n"
                        "Move the counts out of the tables, in order of code, and return how many codes occurred.");

static PyObject *drain(PyObject *self, PyObject *args) {
    PyObject *tables_object, *codes_object, *tallies_object;
    Buffers all = {.held = 0};
    Py_ssize_t found = -1;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOO", &tables_object, &codes_object, &tallies_object)) return NULL;
    uint32_t *tables = borrow(&all, tables_object, PyBUF_WRITABLE, TABLES * CODES * 4, "tables");
    uint16_t *codes = tables ? borrow(&all, codes_object, PyBUF_WRITABLE, CODES * 2, "codes") : NULL;
    int64_t *tallies = codes ? borrow(&all, tallies_object, PyBUF_WRITABLE, CODES * 8, "tallies") : NULL;
    if (tallies) {
        Entries entries = {codes, tallies, 0};
        Py_BEGIN_ALLOW_THREADS
        drain_all(tables, &entries);
        Py_END_ALLOW_THREADS
        found = entries.length;
    }
    release(&all);
    return found < 0 ? NULL : PyLong_FromSsize_t(found);
}

PyDoc_STRVAR(fold_doc, "fold(tables, cells)\n--\n\n"
                       "Give the counts in the tables by cell: four neighbouring magnitudes, signs folded.");

static PyObject *fold(PyObject *self, PyObject *args) {
    PyObject *tables_object, *cells_object;
    Buffers all = {.held = 0};
    (void)self;
    if (!PyArg_ParseTuple(args, "OO", &tables_object, &cells_object)) return NULL;
    const uint32_t *tables = borrow(&all, tables_object, PyBUF_SIMPLE, TABLES * CODES * 4, "tables");
    int64_t *cells = tables ? borrow(&all, cells_object, PyBUF_WRITABLE, CELLS * 8, "cells") : NULL;
    if (cells) {
        Py_BEGIN_ALLOW_THREADS
        fold_all(tables, cells);
        Py_END_ALLOW_THREADS
    }
    release(&all);
    if (!cells) return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(fold_signs_doc, "fold_signs(codes, tallies, not_finite, magnitudes, merged)\n--\n\n"
                             "Count the finite non-zero codes, which rise, without their signs, and return how many "
                             "magnitudes there are.");

static PyObject *fold_signs(PyObject *self, PyObject *args) {
    PyObject *codes_object, *tallies_object, *magnitudes_object, *merged_object;
    int not_finite;
    Buffers all = {.held = 0};
    Py_ssize_t found = -1;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOiOO", &codes_object, &tallies_object, &not_finite, &magnitudes_object,
                          &merged_object))
        return NULL;
    if (not_finite < 1 || not_finite > SIGN_BIT) {
        PyErr_SetString(PyExc_ValueError, "not_finite must be a code without its sign bit");
        return NULL;
    }
    const uint16_t *codes = borrow(&all, codes_object, PyBUF_SIMPLE, -2, "codes");
    Py_ssize_t length = codes ? all.buffers[0].len / 2 : 0;
    const int64_t *tallies = codes ? borrow(&all, tallies_object, PyBUF_SIMPLE, length * 8, "tallies") : NULL;
    int64_t *magnitudes = tallies ? borrow(&all, magnitudes_object, PyBUF_WRITABLE, length * 8, "magnitudes") : NULL;
    int64_t *merged = magnitudes ? borrow(&all, merged_object, PyBUF_WRITABLE, length * 8, "merged") : NULL;
    if (merged) {
        Py_BEGIN_ALLOW_THREADS
        found = merge_signs(codes, tallies, length, (uint32_t)not_finite, magnitudes, merged);
        Py_END_ALLOW_THREADS
    }
    release(&all);
    return found < 0 ? NULL : PyLong_FromSsize_t(found);
}

PyDoc_STRVAR(count_blocks_doc,
             "count_blocks(kind, stored, rows, columns, edges, tables, codes, tallies, ends, row_squares, "
             "column_squares, facts)\n--\n\n"
             "Count a small layer whole: the cells of each row block follow one another, ends[b] after block b, and "
             "after the blocks come the codes of the whole layer, up to the index returned.");

static int edges_rise(const int64_t *edges, Py_ssize_t blocks, Py_ssize_t rows) {
    int rising = blocks >= 1 && edges[0] == 0 && edges[blocks] == rows;
    for (Py_ssize_t block = 0; rising && block < blocks; block++) rising = edges[block] <= edges[block + 1];
    return rising;
}

static void blocks_and_whole(Pass *pass, const unsigned char *stored, Py_ssize_t columns, const int64_t *edges,
                             Py_ssize_t blocks, Entries *entries, int64_t *ends) {
    Marks marks = {{0}, {0}};
    int64_t before[CELLS] = {0};
    double *all_rows = pass->rows;
    pass->marks = &marks;
    for (Py_ssize_t block = 0; block < blocks; block++) {
        memset(marks.cells, 0, sizeof marks.cells);
        pass->rows = all_rows ? all_rows + edges[block] : NULL;
        rows_of_tiles(pass, stored + edges[block] * columns * ITEM_BYTES[pass->kind], edges[block + 1] - edges[block],
                      columns);
        append_cells(pass->tables, marks.cells, before, entries);
        ends[block] = entries->length;
    }
    pass->marks = NULL;
    drain_marked(pass->tables, marks.codes, entries);
}

static PyObject *count_blocks(PyObject *self, PyObject *args) {
    int kind;
    Py_ssize_t rows, columns;
    PyObject *stored, *edges_object, *tables, *codes_object, *tallies_object, *ends_object, *row_squares,
        *column_squares, *facts;
    Buffers all = {.held = 0};
    Pass pass;
    Float32Facts *facts_out;
    Entries entries = {NULL, NULL, 0};
    (void)self;
    if (!PyArg_ParseTuple(args, "iOnnOOOOOOOO", &kind, &stored, &rows, &columns, &edges_object, &tables, &codes_object,
                          &tallies_object, &ends_object, &row_squares, &column_squares, &facts))
        return NULL;
    if (begin(&all, &pass, kind, stored, rows, columns, tables, row_squares, column_squares, facts, &facts_out) < 0)
        goto done;
    const unsigned char *bytes = all.buffers[0].buf;
    /* A code needs a weight: there are at most as many entries as weights in the blocks, and as many in the whole. */
    entries.codes = borrow(&all, codes_object, PyBUF_WRITABLE, 2 * rows * columns * 2, "codes");
    if (!entries.codes) goto done;
    entries.tallies = borrow(&all, tallies_object, PyBUF_WRITABLE, 2 * rows * columns * 8, "tallies");
    if (!entries.tallies) goto done;
    const int64_t *edges = borrow(&all, edges_object, PyBUF_SIMPLE, -2, "edges");
    if (!edges) goto done;
    Py_ssize_t blocks = all.buffers[all.held - 1].len / 8 - 1;
    if (!edges_rise(edges, blocks, rows)) {
        PyErr_SetString(PyExc_ValueError, "edges must rise from 0 to the number of rows");
        goto done;
    }
    int64_t *ends = borrow(&all, ends_object, PyBUF_WRITABLE, blocks * 8, "ends");
    if (!ends) goto done;
    Py_BEGIN_ALLOW_THREADS
    blocks_and_whole(&pass, bytes, columns, edges, blocks, &entries, ends);
    Py_END_ALLOW_THREADS
    *facts_out = pass.facts;
done:
    release(&all);
    return PyErr_Occurred() ? NULL : PyLong_FromSsize_t(entries.length);
}

PyDoc_STRVAR(pair_doc, "pair(kind_a, a, kind_b, b, first, pairing)\n--\n\n"
                       "Add how the weights of b differ from those of a, one by one; the first is weight `first`.");

static Py_ssize_t weights_in(Py_buffer *stored, int kind) {
    if (kind < 0 || kind >= PAIRED_KINDS || stored->len % PAIRED_ITEM_BYTES[kind]) return -1;
    return stored->len / PAIRED_ITEM_BYTES[kind];
}

static PyObject *pair(PyObject *self, PyObject *args) {
    int kind_a, kind_b;
    Py_ssize_t first;
    PyObject *a_object, *b_object, *pairing_object;
    Buffers all = {.held = 0};
    (void)self;
    if (!PyArg_ParseTuple(args, "iOiOnO", &kind_a, &a_object, &kind_b, &b_object, &first, &pairing_object)) return NULL;
    borrow(&all, a_object, PyBUF_SIMPLE, -2, "a");
    if (!PyErr_Occurred()) borrow(&all, b_object, PyBUF_SIMPLE, -2, "b");
    Pairing *pairing = PyErr_Occurred() ? NULL : borrow(&all, pairing_object, PyBUF_WRITABLE, sizeof *pairing, "pairing");
    if (!pairing) goto done;
    Py_ssize_t weights = weights_in(&all.buffers[0], kind_a);
    if (weights < 0 || weights != weights_in(&all.buffers[1], kind_b) || first < 0 || first > PY_SSIZE_T_MAX - weights) {
        PyErr_SetString(PyExc_ValueError, "a and b must hold equally many whole weights of their kinds");
        goto done;
    }
    Pairing result = *pairing;
    const unsigned char *a = all.buffers[0].buf, *b = all.buffers[1].buf;
    Py_BEGIN_ALLOW_THREADS
    pair_tiles(kind_a, a, kind_b, b, weights, first, &result);
    Py_END_ALLOW_THREADS
    *pairing = result;
done:
    release(&all);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"count", count, METH_VARARGS, count_doc},
    {"drain", drain, METH_VARARGS, drain_doc},
    {"fold", fold, METH_VARARGS, fold_doc},
    {"fold_signs", fold_signs, METH_VARARGS, fold_signs_doc},
    {"count_blocks", count_blocks, METH_VARARGS, count_blocks_doc},
    {"pair", pair, METH_VARARGS, pair_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "_kernel", .m_doc = "The compiled kernel of the sketch and of the comparison.", .m_size = 0,
    .m_methods = methods,  .m_slots = slots,
};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&module); }
