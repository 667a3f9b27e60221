/* The last steps of the normaliser `plain-1`: what `normalising._words` does, at a sixth of its time.

   words(text, tags): each run of letters and digits in lower case, followed by one space; apostrophes are dropped, all other
   ASCII characters part the words, and other characters stay as they are. With `tags`, an HTML tag or comment parts them as
   well. A text without a word is one space.

   A pass over the bytes of the text's UTF-8, whose only branch is at a `<`. From there a tag is looked for up to the next `<`
   or `>`, so time is linear in the text. The result is at most one byte longer than the text. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#define DROPPED 0

static unsigned char table[256]; /* what becomes of each byte; filled once, when the module is made */

static void fill_table(void) {
    for (int byte = 0; byte < 256; byte++) {
        int capital = byte >= 'A' && byte <= 'Z';
        int kept = (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte >= 128;
        table[byte] = (unsigned char)(capital ? byte + ('a' - 'A') : kept ? byte : ' ');
    }
    table['\''] = DROPPED;
}

static int begins_tag(unsigned char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '/';
}

/* The end (`>`) of the tag or comment that begins at this `<`; the `<` itself where none does. */
static Py_ssize_t tag_end(const unsigned char *text, Py_ssize_t length, Py_ssize_t start) {
    Py_ssize_t at = start + 1;
    if (at < length && begins_tag(text[at]))
        at += 1;
    else if (length - at >= 3 && memcmp(text + at, "!--", 3) == 0)
        at += 3;
    else
        return start;
    while (at < length && text[at] != '<' && text[at] != '>') at++;
    return at < length && text[at] == '>' ? at : start;
}

/* `out` has room for length + 1 bytes. Returns how many were written. */
static Py_ssize_t write_words(const unsigned char *text, Py_ssize_t length, int tags, char *out) {
    Py_ssize_t written = 0;
    unsigned char last = ' ';
    for (Py_ssize_t at = 0; at < length; at++) {
        unsigned char byte = text[at];
        if (byte == '<' && tags) at = tag_end(text, length, at);
        unsigned char made = table[byte];
        int kept = (made != DROPPED) & ((made != ' ') | (last != ' '));
        out[written] = (char)made;
        written += kept;
        last = kept ? made : last;
    }
    if (last != ' ' || written == 0) out[written++] = ' ';
    return written;
}

static PyObject *words(PyObject *module, PyObject *args) {
    PyObject *text, *found = NULL;
    int tags;
    Py_ssize_t length;
    (void)module;
    if (!PyArg_ParseTuple(args, "Up:words", &text, &tags)) return NULL;
    const char *bytes = PyUnicode_AsUTF8AndSize(text, &length);
    if (bytes == NULL) return NULL;
    char *out = PyMem_Malloc((size_t)length + 1);
    if (out == NULL) return PyErr_NoMemory();
    Py_ssize_t written = write_words((const unsigned char *)bytes, length, tags, out);
    if (PyUnicode_IS_ASCII(text)) {
        found = PyUnicode_New(written, 127);
        if (found != NULL) memcpy(PyUnicode_1BYTE_DATA(found), out, (size_t)written);
    } else
        found = PyUnicode_DecodeUTF8(out, written, "strict");
    PyMem_Free(out);
    return found;
}

static PyMethodDef module_methods[] = {
    {"words", words, METH_VARARGS, "words(text, tags): its words in lower case, each followed by a space."},
    {NULL, NULL, 0, NULL},
};
static int module_exec(PyObject *module) {
    (void)module;
    fill_table();
    return 0;
}
static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};
static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_normalise",
    .m_doc = "The normaliser's last steps; worker.text.normalising is its door.",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__normalise(void) { return PyModuleDef_Init(&module_def); }
