/*
 * A PKCS#11 module for tests. It passes every call on to a real module and, where a plan says so, lies.
 *
 * Variables of the environment tell it where to look:
 *   HANAPER_SHIM_REAL  the real module, at the first call
 *   HANAPER_SHIM_PLAN  the plan, a text file that is read again whenever it changes
 *   HANAPER_SHIM_LOG   a file to which one line a call is added: its number, its name, what was done, the answer
 * A copy of this module that has files beside it, of its own name with .plan and .calls at the end, and a link .real to the
 * real module, uses those.
 *
 * Each line of a plan is: FUNCTION NTH FAULT [ARGUMENT]
 *   FUNCTION  such as C_Sign, or * for all of them
 *   NTH       3 is the third call of that function (of any function for *), 3+ the third and all later ones
 *   FAULT     one of those in the table of package shimtest, which says what each means
 *   ARGUMENT  a number, such as a CKR in hexadecimal
 * Lines that begin with # only make one plan differ from another. Counting begins again when the plan changes.
 *
 * The program calls some functions twice: once to learn the size of the answer, then for the answer. Both count as one
 * call, and the decision made at the first holds for the second.
 *
 * The types are those of PKCS#11 v2.40 on Linux: everything that is passed is a machine word, so the list of functions
 * is handled as a list of words. Its order is that of the standard's pkcs11f.h.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef unsigned long word;
struct attribute { word type; void *value; word len; };
struct functions { unsigned char version[2]; word f[68]; };

enum { INITIALIZE, FINALIZE, GETINFO, GETFUNCTIONLIST, GETSLOTLIST, GETSLOTINFO, GETTOKENINFO, GETMECHANISMLIST, GETMECHANISMINFO, INITTOKEN,
	INITPIN, SETPIN, OPENSESSION, CLOSESESSION, CLOSEALLSESSIONS, GETSESSIONINFO, GETOPERATIONSTATE, SETOPERATIONSTATE, LOGIN, LOGOUT,
	CREATEOBJECT, COPYOBJECT, DESTROYOBJECT, GETOBJECTSIZE, GETATTRIBUTEVALUE, SETATTRIBUTEVALUE, FINDOBJECTSINIT, FINDOBJECTS, FINDOBJECTSFINAL,
	ENCRYPTINIT, ENCRYPT, DECRYPTINIT = 33, DECRYPT = 34, SIGNINIT = 42, SIGN = 43, GENERATEKEY = 58, GENERATEKEYPAIR = 59, WRAPKEY = 60,
	UNWRAPKEY = 61, DERIVEKEY = 62, COUNT = 68 };

static const struct { int index; const char *name; } names[] = {
	{INITIALIZE, "C_Initialize"}, {FINALIZE, "C_Finalize"}, {GETINFO, "C_GetInfo"}, {GETSLOTLIST, "C_GetSlotList"}, {GETSLOTINFO, "C_GetSlotInfo"},
	{GETTOKENINFO, "C_GetTokenInfo"}, {GETMECHANISMLIST, "C_GetMechanismList"}, {GETMECHANISMINFO, "C_GetMechanismInfo"}, {INITTOKEN, "C_InitToken"},
	{INITPIN, "C_InitPIN"}, {SETPIN, "C_SetPIN"}, {OPENSESSION, "C_OpenSession"}, {CLOSESESSION, "C_CloseSession"},
	{CLOSEALLSESSIONS, "C_CloseAllSessions"}, {GETSESSIONINFO, "C_GetSessionInfo"}, {LOGIN, "C_Login"}, {LOGOUT, "C_Logout"},
	{CREATEOBJECT, "C_CreateObject"}, {DESTROYOBJECT, "C_DestroyObject"}, {GETATTRIBUTEVALUE, "C_GetAttributeValue"},
	{SETATTRIBUTEVALUE, "C_SetAttributeValue"}, {FINDOBJECTSINIT, "C_FindObjectsInit"}, {FINDOBJECTS, "C_FindObjects"},
	{FINDOBJECTSFINAL, "C_FindObjectsFinal"}, {DECRYPTINIT, "C_DecryptInit"}, {DECRYPT, "C_Decrypt"}, {SIGNINIT, "C_SignInit"}, {SIGN, "C_Sign"},
	{GENERATEKEY, "C_GenerateKey"}, {GENERATEKEYPAIR, "C_GenerateKeyPair"}, {WRAPKEY, "C_WrapKey"}, {UNWRAPKEY, "C_UnwrapKey"}, {DERIVEKEY, "C_DeriveKey"},
};
static const char *name_of[COUNT];

enum { CKR_OK = 0, CKR_GENERAL_ERROR = 5, CKR_ARGUMENTS_BAD = 7, CKR_SESSION_COUNT = 0xB1, CKR_BUFFER_TOO_SMALL = 0x150, CKM_RSA_PKCS_PSS = 0xD };
enum { CKA_TOKEN = 1, CKA_PRIVATE = 2, CKA_LABEL = 3, CKA_VALUE = 0x11, CKA_ID = 0x102, CKA_SENSITIVE = 0x103, CKA_MODULUS = 0x120, CKA_EXTRACTABLE = 0x162, CKA_LOCAL = 0x163,
	CKA_NEVER_EXTRACTABLE = 0x164, CKA_ALWAYS_SENSITIVE = 0x165, CKA_WRAP_WITH_TRUSTED = 0x210, CKA_EC_PARAMS = 0x180, CKA_EC_POINT = 0x181 };

/* The plan. */
#define RULES 16
struct rule { char function[40], fault[32]; long nth; int onwards; word argument; };
static struct rule rules[RULES];
static int rule_count;
static char plan_text[4096];
static long calls, calls_of[COUNT];
static word dead;          /* the answer to everything until the module is started anew; 0 while it works */
enum { CLAIMS_SEALED = 1, CLAIMS_BACKUP, CLAIMS_RESTORED };
static int lie_sealed;     /* private keys claim the attributes of this class */
static int lie_token;      /* objects claim to be token objects */
static word stuck[COUNT];  /* the same for one function */
static int blind;          /* nothing is found until the module is started anew */
static int open_sessions, one_session;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct functions *real, mine;

/* beside is the name of a file beside this module, if it is there; otherwise what the environment says. */
static const char *beside(const char *ending, const char *variable, char *room, size_t size)
{
	Dl_info self;
	if (dladdr((void *)beside, &self) && (size_t)snprintf(room, size, "%s%s", self.dli_fname, ending) < size && access(room, F_OK) == 0)
		return room;
	return getenv(variable);
}

static void read_plan(void)
{
	char place[4096];
	char text[sizeof plan_text] = "";
	const char *path = beside(".plan", "HANAPER_SHIM_PLAN", place, sizeof place);
	FILE *f = path ? fopen(path, "r") : NULL;
	if (f) {
		text[fread(text, 1, sizeof text - 1, f)] = 0;
		fclose(f);
	}
	if (!strcmp(text, plan_text))
		return;
	strcpy(plan_text, text);
	rule_count = 0;
	calls = 0;
	memset(calls_of, 0, sizeof calls_of);
	dead = 0;
	memset(stuck, 0, sizeof stuck);
	lie_sealed = lie_token = one_session = blind = 0;
	char *rest = text, *line;
	while ((line = strsep(&rest, "\n")) && rule_count < RULES) {
		struct rule *r = &rules[rule_count];
		char nth[24] = "", argument[32] = "0";
		if (*line == '#' || sscanf(line, "%39s %23s %31s %31s", r->function, nth, r->fault, argument) < 3)
			continue;
		r->nth = strtol(nth, NULL, 10);
		r->onwards = strchr(nth, '+') != NULL;
		r->argument = strtoul(argument, NULL, 0);
		rule_count++;
	}
}

/* What is to be done with a call. */
struct decision { const char *fault; word argument; long number; };
static __thread struct decision current[COUNT];

/* decide counts a call and finds its fault. second is true for the second half of a call that is made in two. */
static struct decision *decide(int i, int second)
{
	struct decision *d = &current[i];
	if (second && d->fault)
		return d;
	pthread_mutex_lock(&lock);
	read_plan();
	d->fault = "";
	d->argument = 0;
	d->number = ++calls;
	long n = ++calls_of[i];
	for (int k = 0; k < rule_count; k++) {
		struct rule *r = &rules[k];
		int any = !strcmp(r->function, "*");
		long at = any ? d->number : n;
		if ((any || !strcmp(r->function, name_of[i])) && (at == r->nth || (r->onwards && at > r->nth))) {
			d->fault = r->fault;
			d->argument = r->argument;
			break;
		}
	}
	if (!strcmp(d->fault, "dead"))
		dead = d->argument;
	if (!strcmp(d->fault, "stuck"))
		stuck[i] = d->argument;
	if (i == INITIALIZE)
		memset(stuck, 0, sizeof stuck);
	if (stuck[i]) {
		d->fault = "ckr";
		d->argument = stuck[i];
	}
	if (!strcmp(d->fault, "blind"))
		blind = 1;
	if (i == INITIALIZE)
		blind = 0;
	if (i == INITIALIZE || i == FINALIZE) {
		dead = strcmp(d->fault, "dead") ? 0 : dead;
	} else if (dead) {
		d->fault = "ckr";
		d->argument = dead;
	}
	if (!strcmp(d->fault, "one-session"))
		one_session = 1;
	pthread_mutex_unlock(&lock);
	return d;
}

static int is(struct decision *d, const char *fault) { return !strcmp(d->fault, fault); }

static word done(int i, struct decision *d, word rv)
{
	char place[4096];
	const char *path = beside(".calls", "HANAPER_SHIM_LOG", place, sizeof place);
	if (is(d, "late-ckr"))
		rv = d->argument;
	FILE *f = path ? fopen(path, "a") : NULL;
	if (f) {
		fprintf(f, "%ld %s %s 0x%lx\n", d->number, name_of[i], *d->fault ? d->fault : "-", rv);
		fclose(f);
	}
	return rv;
}

/* before does what comes before the real call. It says whether the answer is known already. */
static int before(struct decision *d, word *rv)
{
	if (is(d, "ckr") || is(d, "dead")) {
		*rv = d->argument;
		return 1;
	}
	if (is(d, "slow"))
		usleep(d->argument * 1000);
	if (is(d, "crash"))
		*(volatile int *)8 = 1;
	if (is(d, "exit"))
		_exit(d->argument);
	if (is(d, "stop"))
		raise(SIGSTOP);
	if (is(d, "hang")) {
		char was[sizeof plan_text];
		pthread_mutex_lock(&lock);
		strcpy(was, plan_text);
		pthread_mutex_unlock(&lock);
		for (;;) { /* until the test puts another plan there */
			usleep(5000);
			pthread_mutex_lock(&lock);
			read_plan();
			int changed = strcmp(was, plan_text);
			pthread_mutex_unlock(&lock);
			if (changed)
				break;
		}
	}
	return 0;
}

typedef word (*call)(word, word, word, word, word, word, word, word);
static word forward(int i, word a, word b, word c, word d, word e, word f, word g, word h)
{
	return ((call)real->f[i])(a, b, c, d, e, f, g, h);
}

/* plain passes a call on whose answer nobody changes. */
static word plain(int i, int second, word a, word b, word c, word d, word e, word f, word g, word h)
{
	struct decision *x = decide(i, second);
	word rv;
	if (!before(x, &rv))
		rv = forward(i, a, b, c, d, e, f, g, h);
	return done(i, x, rv);
}

#define PLAIN(function, index, second) \
	static word function(word a, word b, word c, word d, word e, word f, word g, word h) { return plain(index, second, a, b, c, d, e, f, g, h); }
PLAIN(do_get_info, GETINFO, 0)
PLAIN(do_get_slot_list, GETSLOTLIST, b != 0)
PLAIN(do_get_slot_info, GETSLOTINFO, 0)
PLAIN(do_get_mechanism_list, GETMECHANISMLIST, b != 0)
PLAIN(do_get_mechanism_info, GETMECHANISMINFO, 0)
PLAIN(do_init_token, INITTOKEN, 0)
PLAIN(do_init_pin, INITPIN, 0)
PLAIN(do_get_session_info, GETSESSIONINFO, 0)
PLAIN(do_logout, LOGOUT, 0)
PLAIN(do_find_init, FINDOBJECTSINIT, 0)
PLAIN(do_find_final, FINDOBJECTSFINAL, 0)
PLAIN(do_decrypt_init, DECRYPTINIT, 0)
PLAIN(do_decrypt, DECRYPT, d != 0)
PLAIN(do_wrap, WRAPKEY, e != 0)
PLAIN(do_derive, DERIVEKEY, 0)

static word do_initialize(word a, word b, word c, word d, word e, word f, word g, word h)
{
	struct decision *x = decide(INITIALIZE, 0);
	word rv;
	if (!before(x, &rv))
		rv = forward(INITIALIZE, a, b, c, d, e, f, g, h);
	pthread_mutex_lock(&lock);
	open_sessions = 0;
	pthread_mutex_unlock(&lock);
	return done(INITIALIZE, x, rv);
}

static word do_finalize(word a, word b, word c, word d, word e, word f, word g, word h)
{
	struct decision *x = decide(FINALIZE, 0);
	word rv;
	if (!before(x, &rv))
		rv = forward(FINALIZE, a, b, c, d, e, f, g, h);
	return done(FINALIZE, x, rv);
}

/* CK_TOKEN_INFO begins with label[32], manufacturerID[32], model[16], serialNumber[16], flags, then the session counts. */
static word do_get_token_info(word slot, word info, word c, word d, word e, word f, word g, word h)
{
	struct decision *x = decide(GETTOKENINFO, 0);
	word rv;
	if (!before(x, &rv))
		rv = forward(GETTOKENINFO, slot, info, c, d, e, f, g, h);
	unsigned char *t = (unsigned char *)info;
	word *counts = (word *)(t + 104);
	if (rv == CKR_OK && t) {
		if (is(x, "no-serial"))
			memset(t + 80, ' ', 16);
		if (is(x, "same-label"))
			memset(t, ' ', 32), memcpy(t, "token", 5);
		if (is(x, "same-all"))
			memset(t, ' ', 32), memcpy(t, "token", 5), memset(t + 80, ' ', 16);
		if (is(x, "nul-padded"))
			for (int k = 0; k < 96; k++)
				if (k == 31 || k == 63 || k == 79 || k == 95)
					for (int n = k; n >= 0 && t[n] == ' '; n--)
						t[n] = 0;
		if (is(x, "nul-and-rest"))
			for (int k = 0; k < 31; k++)
				if (t[k] == ' ' && t[k + 1] == ' ') {
					t[k] = 0;
					t[k + 1] = 'x';
					break;
				}
		if (is(x, "pad"))
			*(word *)(t + 96) |= 0x100; /* CKF_PROTECTED_AUTHENTICATION_PATH */
		if (is(x, "one-session"))
			counts[0] = counts[2] = 1; /* ulMaxSessionCount, ulMaxRwSessionCount */
	}
	return done(GETTOKENINFO, x, rv);
}

static word do_open_session(word a, word b, word c, word d, word out, word f, word g, word h)
{
	struct decision *x = decide(OPENSESSION, 0);
	word rv;
	pthread_mutex_lock(&lock);
	int full = one_session && open_sessions > 0;
	pthread_mutex_unlock(&lock);
	if (full)
		rv = CKR_SESSION_COUNT;
	else if (!before(x, &rv))
		rv = forward(OPENSESSION, a, b, c, d, out, f, g, h);
	if (rv == CKR_OK) {
		pthread_mutex_lock(&lock);
		open_sessions++;
		pthread_mutex_unlock(&lock);
	}
	return done(OPENSESSION, x, rv);
}

static word do_close_session(word a, word b, word c, word d, word e, word f, word g, word h)
{
	struct decision *x = decide(CLOSESESSION, 0);
	word rv = CKR_OK;
	if (!is(x, "nothing") && !before(x, &rv))
		rv = forward(CLOSESESSION, a, b, c, d, e, f, g, h);
	if (rv == CKR_OK) {
		pthread_mutex_lock(&lock);
		open_sessions--;
		pthread_mutex_unlock(&lock);
	}
	return done(CLOSESESSION, x, rv);
}

static word do_close_all(word a, word b, word c, word d, word e, word f, word g, word h)
{
	struct decision *x = decide(CLOSEALLSESSIONS, 0);
	word rv;
	if (!before(x, &rv))
		rv = forward(CLOSEALLSESSIONS, a, b, c, d, e, f, g, h);
	pthread_mutex_lock(&lock);
	open_sessions = 0;
	pthread_mutex_unlock(&lock);
	return done(CLOSEALLSESSIONS, x, rv);
}

/* typed reads what the person types at the token's own keys: the lines of the file whose name is the plan's and ".pad". */
static int typed(char line[2][64])
{
	char path[4096];
	snprintf(path, sizeof path, "%s.pad", getenv("HANAPER_SHIM_PLAN"));
	FILE *f = fopen(path, "r");
	if (!f)
		return 0;
	int n = 0;
	while (n < 2 && fgets(line[n], 64, f))
		line[n][strcspn(line[n], "\n")] = 0, n++;
	fclose(f);
	return n;
}

static word do_set_pin(word session, word before_pin, word before_length, word pin, word length, word f, word g, word h)
{
	struct decision *x = decide(SETPIN, 0);
	word rv;
	char line[2][64];
	if (is(x, "pad")) {
		if (before_pin || before_length || pin || length)
			rv = CKR_ARGUMENTS_BAD;
		else if (typed(line) < 2)
			rv = 0x50; /* CKR_FUNCTION_CANCELED */
		else
			rv = forward(SETPIN, session, (word)line[0], strlen(line[0]), (word)line[1], strlen(line[1]), f, g, h);
	} else if (!before(x, &rv)) {
		rv = forward(SETPIN, session, before_pin, before_length, pin, length, f, g, h);
	}
	return done(SETPIN, x, rv);
}

static word do_login(word session, word user, word pin, word length, word e, word f, word g, word h)
{
	struct decision *x = decide(LOGIN, 0);
	word rv;
	if (is(x, "burn")) { /* the token counts a wrong try, and the module says something else */
		forward(LOGIN, session, user, (word)"not-the-pin", 11, e, f, g, h);
		rv = x->argument;
	} else if (is(x, "pad")) { /* the PIN comes from the token's own keys, and none from the program */
		char line[2][64];
		if (pin || length)
			rv = CKR_ARGUMENTS_BAD;
		else if (typed(line) < 1)
			rv = 0x50; /* CKR_FUNCTION_CANCELED */
		else
			rv = forward(LOGIN, session, user, (word)line[0], strlen(line[0]), e, f, g, h);
	} else if (!before(x, &rv)) {
		rv = forward(LOGIN, session, user, pin, length, e, f, g, h);
	}
	return done(LOGIN, x, rv);
}

static void set_bool(struct attribute *t, word n, word type, unsigned char value)
{
	for (word k = 0; k < n; k++)
		if (t[k].type == type && t[k].value && t[k].len == 1)
			*(unsigned char *)t[k].value = value;
}

static word do_generate_pair(word session, word mechanism, word public, word np, word private, word nq, word out, word outq)
{
	static word last[2];
	struct decision *x = decide(GENERATEKEYPAIR, 0);
	struct attribute *p = (struct attribute *)public, *q = (struct attribute *)private;
	word rv;
	if (is(x, "extractable"))
		set_bool(q, nq, CKA_EXTRACTABLE, 1), set_bool(q, nq, CKA_WRAP_WITH_TRUSTED, 0), lie_sealed = CLAIMS_SEALED;
	if (is(x, "readable"))
		set_bool(q, nq, CKA_SENSITIVE, 0), set_bool(q, nq, CKA_EXTRACTABLE, 1), set_bool(q, nq, CKA_WRAP_WITH_TRUSTED, 0), lie_sealed = CLAIMS_SEALED;
	if (is(x, "untrusted"))
		set_bool(q, nq, CKA_WRAP_WITH_TRUSTED, 0), lie_sealed = CLAIMS_BACKUP;
	if (is(x, "for-the-session"))
		set_bool(p, np, CKA_TOKEN, 0), set_bool(q, nq, CKA_TOKEN, 0), lie_token = 1;
	if (is(x, "private-for-the-session"))
		set_bool(q, nq, CKA_TOKEN, 0), lie_token = 1;
	if (is(x, "other-curve")) {
		static unsigned char p384[] = {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22};
		for (word i = 0; i < np; i++)
			if (p[i].type == CKA_EC_PARAMS)
				p[i].value = p384, p[i].len = sizeof p384;
	}
	if (!before(x, &rv))
		rv = forward(GENERATEKEYPAIR, session, mechanism, public, np, private, nq, out, outq);
	if (rv == CKR_OK && is(x, "twice")) {
		word again[2];
		forward(GENERATEKEYPAIR, session, mechanism, public, np, private, nq, (word)&again[0], (word)&again[1]);
	}
	if (rv == CKR_OK) {
		word made[2] = {*(word *)out, *(word *)outq};
		if (is(x, "public-of-before") && last[0])
			*(word *)out = last[0];
		last[0] = made[0], last[1] = made[1];
	}
	return done(GENERATEKEYPAIR, x, rv);
}

static word do_create(word session, word template, word n, word out, word e, word f, word g, word h)
{
	struct decision *x = decide(CREATEOBJECT, 0);
	word rv;
	if (is(x, "for-the-session"))
		set_bool((struct attribute *)template, n, CKA_TOKEN, 0), lie_token = 1;
	if (!before(x, &rv))
		rv = forward(CREATEOBJECT, session, template, n, out, e, f, g, h);
	return done(CREATEOBJECT, x, rv);
}

static word do_generate_key(word session, word mechanism, word template, word n, word out, word f, word g, word h)
{
	struct decision *x = decide(GENERATEKEY, 0);
	word rv;
	if (!before(x, &rv))
		rv = forward(GENERATEKEY, session, mechanism, template, n, out, f, g, h);
	return done(GENERATEKEY, x, rv);
}

static word do_unwrap(word session, word mechanism, word key, word data, word length, word template, word n, word out)
{
	struct decision *x = decide(UNWRAPKEY, 0);
	struct attribute *t = (struct attribute *)template;
	word rv;
	if (is(x, "extractable"))
		set_bool(t, n, CKA_EXTRACTABLE, 1), lie_sealed = CLAIMS_RESTORED;
	if (is(x, "readable"))
		set_bool(t, n, CKA_SENSITIVE, 0), set_bool(t, n, CKA_EXTRACTABLE, 1), lie_sealed = CLAIMS_RESTORED;
	if (is(x, "for-the-session"))
		set_bool(t, n, CKA_TOKEN, 0), lie_token = 1;
	if (!before(x, &rv))
		rv = forward(UNWRAPKEY, session, mechanism, key, data, length, template, n, out);
	return done(UNWRAPKEY, x, rv);
}

static word do_destroy(word a, word b, word c, word d, word e, word f, word g, word h)
{
	struct decision *x = decide(DESTROYOBJECT, 0);
	word rv = CKR_OK;
	if (!is(x, "nothing") && !before(x, &rv))
		rv = forward(DESTROYOBJECT, a, b, c, d, e, f, g, h);
	return done(DESTROYOBJECT, x, rv);
}

static word do_set_attributes(word a, word b, word c, word d, word e, word f, word g, word h)
{
	struct decision *x = decide(SETATTRIBUTEVALUE, 0);
	word rv = CKR_OK;
	if (is(x, "nothing-but-says-so"))
		lie_sealed = CLAIMS_RESTORED;
	else if (!is(x, "nothing") && !before(x, &rv))
		rv = forward(SETATTRIBUTEVALUE, a, b, c, d, e, f, g, h);
	return done(SETATTRIBUTEVALUE, x, rv);
}

static word do_find(word session, word out, word max, word count, word e, word f, word g, word h)
{
	struct decision *x = decide(FINDOBJECTS, 0);
	word rv;
	if (!before(x, &rv))
		rv = forward(FINDOBJECTS, session, out, max, count, e, f, g, h);
	word *n = (word *)count, *o = (word *)out;
	if (rv == CKR_OK && (blind || is(x, "none")))
		*n = 0;
	if (rv == CKR_OK && is(x, "doubled") && *n && *n < max)
		o[*n] = o[0], ++*n;
	return done(FINDOBJECTS, x, rv);
}

/* The base points of P-256 and P-384, uncompressed: good public keys of the private key 1. */
static const unsigned char base256[65] = {4,
	0x6b,0x17,0xd1,0xf2,0xe1,0x2c,0x42,0x47,0xf8,0xbc,0xe6,0xe5,0x63,0xa4,0x40,0xf2,0x77,0x03,0x7d,0x81,0x2d,0xeb,0x33,0xa0,0xf4,0xa1,0x39,0x45,0xd8,0x98,0xc2,0x96,
	0x4f,0xe3,0x42,0xe2,0xfe,0x1a,0x7f,0x9b,0x8e,0xe7,0xeb,0x4a,0x7c,0x0f,0x9e,0x16,0x2b,0xce,0x33,0x57,0x6b,0x31,0x5e,0xce,0xcb,0xb6,0x40,0x68,0x37,0xbf,0x51,0xf5};
static const unsigned char base384[97] = {4,
	0xaa,0x87,0xca,0x22,0xbe,0x8b,0x05,0x37,0x8e,0xb1,0xc7,0x1e,0xf3,0x20,0xad,0x74,0x6e,0x1d,0x3b,0x62,0x8b,0xa7,0x9b,0x98,0x59,0xf7,0x41,0xe0,0x82,0x54,0x2a,0x38,
	0x55,0x02,0xf2,0x5d,0xbf,0x55,0x29,0x6c,0x3a,0x54,0x5e,0x38,0x72,0x76,0x0a,0xb7,
	0x36,0x17,0xde,0x4a,0x96,0x26,0x2c,0x6f,0x5d,0x9e,0x98,0xbf,0x92,0x92,0xdc,0x29,0xf8,0xf4,0x1d,0xbd,0x28,0x9a,0x14,0x7c,0xe9,0xda,0x31,0x13,0xb5,0xf0,0xb8,0xc0,
	0x0a,0x60,0xb1,0xce,0x1d,0x7e,0x81,0x9d,0x7a,0x43,0x1d,0x7c,0x90,0xea,0x0e,0x5f};

static void lie(struct decision *x, struct attribute *a)
{
	unsigned char *v = a->value;
	if (!v || a->len == ~0UL || a->len == 0)
		return;
	if (lie_sealed && a->len == 1)
		switch (a->type) {
		case CKA_SENSITIVE: *v = 1; break;
		case CKA_ALWAYS_SENSITIVE: if (lie_sealed != CLAIMS_RESTORED) *v = 1; break;
		case CKA_EXTRACTABLE: if (lie_sealed != CLAIMS_BACKUP) *v = 0; break;
		case CKA_NEVER_EXTRACTABLE: if (lie_sealed == CLAIMS_SEALED) *v = 1; break;
		case CKA_WRAP_WITH_TRUSTED: if (lie_sealed == CLAIMS_BACKUP) *v = 1; break;
		}
	if (lie_token && a->type == CKA_TOKEN && a->len == 1)
		*v = 1;
	switch (a->type) {
	case CKA_EC_POINT:
		if (is(x, "other-point") && a->len == 67)
			memcpy(v + 2, base256, 65);
		else if (is(x, "other-point") && a->len == 99)
			memcpy(v + 2, base384, 97);
		else if (is(x, "other-point"))
			v[a->len - 1] ^= 1; /* an Edwards key: some other 32 bytes */
		if (is(x, "bad-point"))
			v[a->len - 1] ^= 1;
		if (is(x, "short-point"))
			a->len -= 1;
		break;
	case CKA_MODULUS:
		if (is(x, "other-point") || is(x, "bad-point"))
			v[a->len / 2] ^= 1;
		if (is(x, "short-point"))
			a->len -= 1;
		break;
	case CKA_ID:
		if (is(x, "other-id"))
			v[0] ^= 1;
		break;
	case CKA_LABEL:
		if (is(x, "other-label"))
			v[0] ^= 1;
		break;
	}
}

static word do_get_attributes(word session, word object, word template, word n, word e, word f, word g, word h)
{
	struct attribute *t = (struct attribute *)template;
	struct decision *x = decide(GETATTRIBUTEVALUE, n && t[0].value);
	word rv;
	word room[64];
	int pad = is(x, "nul-padded");
	for (word k = 0; k < n && k < 64; k++) { /* the room that the program gave; padding needs more of it than the token knows */
		room[k] = t[k].len;
		if (pad && t[k].type == CKA_LABEL && t[k].value)
			memset(t[k].value, 0, room[k]);
	}
	if (!before(x, &rv))
		rv = forward(GETATTRIBUTEVALUE, session, object, template, n, e, f, g, h);
	if (rv == CKR_OK)
		for (word k = 0; k < n && k < 64; k++) {
			lie(x, &t[k]);
			if (pad && t[k].type == CKA_LABEL && t[k].len != ~0UL)
				t[k].len = t[k].value ? room[k] : t[k].len + 8;
		}
	return done(GETATTRIBUTEVALUE, x, rv);
}

/* A token that takes a PSS salt of 20 bytes, whatever it is asked. */
static word do_sign_init(word session, word mechanism, word key, word d, word e, word f, word g, word h)
{
	struct decision *x = decide(SIGNINIT, 0);
	struct { word type; word *parameter; word length; } *m = (void *)mechanism;
	word rv;
	if (is(x, "short-salt") && m->type == CKM_RSA_PKCS_PSS && m->length == 3 * sizeof(word))
		m->parameter[2] = 20;
	if (!before(x, &rv))
		rv = forward(SIGNINIT, session, mechanism, key, d, e, f, g, h);
	return done(SIGNINIT, x, rv);
}

static word do_sign(word session, word data, word length, word signature, word size, word f, word g, word h)
{
	static unsigned char last[512];
	static word last_length;
	struct decision *x = decide(SIGN, signature != 0);
	unsigned char other[4096];
	word rv;
	if (is(x, "other-data") && length && length <= sizeof other) {
		memcpy(other, (void *)data, length);
		other[length - 1] ^= 1;
		data = (word)other;
	}
	if (!before(x, &rv))
		rv = forward(SIGN, session, data, length, signature, size, f, g, h);
	unsigned char *s = (unsigned char *)signature;
	word *n = (word *)size;
	if (rv == CKR_OK && s && *n) {
		unsigned char made[512];
		word made_length = *n;
		memcpy(made, s, *n < sizeof made ? *n : sizeof made);
		if (is(x, "wrong"))
			s[*n - 1] ^= 1;
		if (is(x, "zero"))
			memset(s, 0, *n);
		if (is(x, "short"))
			*n -= 1;
		if (is(x, "empty"))
			*n = 0;
		if (is(x, "one-before") && last_length == *n)
			memcpy(s, last, *n);
		memcpy(last, made, sizeof made);
		last_length = made_length;
	}
	return done(SIGN, x, rv);
}

word C_GetFunctionList(struct functions **list)
{
	pthread_mutex_lock(&lock);
	if (!real) {
		char place[4096];
		const char *path = beside(".real", "HANAPER_SHIM_REAL", place, sizeof place);
		void *module = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
		word (*get)(struct functions **) = module ? (word (*)(struct functions **))dlsym(module, "C_GetFunctionList") : NULL;
		if (!get || get(&real) != CKR_OK || !real) {
			fprintf(stderr, "shim: cannot load %s: %s\n", path ? path : "(HANAPER_SHIM_REAL is not set)", dlerror());
			pthread_mutex_unlock(&lock);
			return CKR_GENERAL_ERROR;
		}
		for (unsigned k = 0; k < sizeof names / sizeof *names; k++)
			name_of[names[k].index] = names[k].name;
		mine = *real;
		struct { int index; void *function; } ours[] = {
			{INITIALIZE, do_initialize}, {FINALIZE, do_finalize}, {GETINFO, do_get_info}, {GETSLOTLIST, do_get_slot_list}, {GETSLOTINFO, do_get_slot_info},
			{GETTOKENINFO, do_get_token_info}, {GETMECHANISMLIST, do_get_mechanism_list}, {GETMECHANISMINFO, do_get_mechanism_info},
			{INITTOKEN, do_init_token}, {INITPIN, do_init_pin}, {SETPIN, do_set_pin}, {OPENSESSION, do_open_session}, {CLOSESESSION, do_close_session},
			{CLOSEALLSESSIONS, do_close_all}, {GETSESSIONINFO, do_get_session_info}, {LOGIN, do_login}, {LOGOUT, do_logout}, {CREATEOBJECT, do_create},
			{DESTROYOBJECT, do_destroy}, {GETATTRIBUTEVALUE, do_get_attributes}, {SETATTRIBUTEVALUE, do_set_attributes},
			{FINDOBJECTSINIT, do_find_init}, {FINDOBJECTS, do_find}, {FINDOBJECTSFINAL, do_find_final}, {DECRYPTINIT, do_decrypt_init},
			{DECRYPT, do_decrypt}, {SIGNINIT, do_sign_init}, {SIGN, do_sign}, {GENERATEKEY, do_generate_key}, {GENERATEKEYPAIR, do_generate_pair},
			{WRAPKEY, do_wrap}, {UNWRAPKEY, do_unwrap}, {DERIVEKEY, do_derive},
		};
		for (unsigned k = 0; k < sizeof ours / sizeof *ours; k++)
			mine.f[ours[k].index] = (word)ours[k].function;
	}
	pthread_mutex_unlock(&lock);
	if (!list)
		return CKR_ARGUMENTS_BAD;
	*list = &mine;
	return CKR_OK;
}
