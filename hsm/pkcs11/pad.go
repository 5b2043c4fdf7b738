package pkcs11

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>

// The beginning of CK_FUNCTION_LIST (PKCS#11 v2.40, section 3.6): a version, then the functions in their order.
typedef struct { unsigned char version[2]; void *functions[68]; } hanaper_functions;
typedef unsigned long (*hanaper_list)(hanaper_functions **);
typedef unsigned long (*hanaper_login)(unsigned long, unsigned long, unsigned char *, unsigned long);
typedef unsigned long (*hanaper_set_pin)(unsigned long, unsigned char *, unsigned long, unsigned char *, unsigned long);
enum { hanaper_c_set_pin = 11, hanaper_c_login = 18, hanaper_not_supported = 0x54 };

static void *hanaper_function(const char *library, int which) {
	hanaper_functions *list = NULL;
	void *opened = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
	if (opened == NULL)
		return NULL;
	hanaper_list get = (hanaper_list)dlsym(opened, "C_GetFunctionList");
	if (get == NULL || get(&list) != 0)
		list = NULL;
	dlclose(opened); // it stays loaded: it was before
	return list == NULL ? NULL : list->functions[which];
}

static unsigned long hanaper_login_at_pad(const char *library, unsigned long session, unsigned long user) {
	hanaper_login login = (hanaper_login)hanaper_function(library, hanaper_c_login);
	return login == NULL ? hanaper_not_supported : login(session, user, NULL, 0);
}

static unsigned long hanaper_set_pin_at_pad(const char *library, unsigned long session) {
	hanaper_set_pin set = (hanaper_set_pin)hanaper_function(library, hanaper_c_set_pin);
	return set == NULL ? hanaper_not_supported : set(session, NULL, 0, NULL, 0);
}
*/
import "C"

import (
	"context"
	"unsafe"

	p11 "github.com/miekg/pkcs11"
)

// atPad stands for a PIN that is typed at the token's own keys (CKF_PROTECTED_AUTHENTICATION_PATH): C_Login and C_SetPIN get a null
// pointer for it (PKCS#11 v2.40, section 5.6). The binding sends a pointer to an empty string, which some libraries take for an empty
// PIN and count as a wrong try; so the functions are called here.
var atPad = []byte{}

// isPad tells atPad from a PIN, which is never empty, and from none.
func isPad(pin []byte) bool { return pin != nil && len(pin) == 0 }

// loginAtPad is C_Login without a PIN. It returns when the person has typed it. The caller is inside the guard.
func (m *module) loginAtPad(h p11.SessionHandle, user uint) error {
	library := C.CString(m.path)
	defer C.free(unsafe.Pointer(library))
	return answer(C.hanaper_login_at_pad(library, C.ulong(h), C.ulong(user)))
}

// setPINAtPad is C_SetPIN without PINs: the old and the new one are typed at the token's own keys.
func (t *Token) setPINAtPad(ctx context.Context) error {
	t.tell("type the old PIN of " + t.Info().Name() + ", then the new one, at its own keys")
	library := C.CString(t.m.path)
	defer C.free(unsafe.Pointer(library))
	t.loginChange.Lock()
	defer t.loginChange.Unlock()
	return t.fail(t.do(ctx, func(s session) error {
		s.act()
		return t.m.pinAnswer(answer(C.hanaper_set_pin_at_pad(library, C.ulong(s.h))), slotToken{slot: s.slot, info: t.Info()}, p11.CKU_USER)
	}), "change the user PIN")
}

func answer(rv C.ulong) error {
	if rv == p11.CKR_OK {
		return nil
	}
	return p11.Error(rv)
}
