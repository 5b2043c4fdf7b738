package ceremony

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// field is what a script says under a key, such as "subject.common_name" of a step.
type field struct{ path, value string }

// fields lists what is written in v, a struct with yaml tags, in the order of its fields; what was left out is not
// listed.
func fields(v any) []field {
	var list []field
	flatten(reflect.ValueOf(v), "", func(path, value string) { list = append(list, field{path, value}) })
	return list
}

func flatten(v reflect.Value, path string, add func(path, value string)) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		if e := v.Elem(); e.Kind() != reflect.Struct {
			add(path, fmt.Sprint(e.Interface())) // a pointer says that 0 was written
			return
		}
		flatten(v.Elem(), path, add)
	case reflect.Struct:
		for i := range v.NumField() {
			tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			if tag == "" || tag == "-" {
				continue
			}
			if path != "" {
				tag = path + "." + tag
			}
			flatten(v.Field(i), tag, add)
		}
	case reflect.Slice:
		if v.IsNil() {
			return
		}
		if e := v.Type().Elem().Kind(); e != reflect.Struct && e != reflect.Pointer {
			var items []string
			for i := range v.Len() {
				items = append(items, fmt.Sprint(v.Index(i).Interface()))
			}
			add(path, strings.Join(items, ", "))
			return
		}
		for i := range v.Len() {
			flatten(v.Index(i), fmt.Sprintf("%s.%d", path, i+1), add)
		}
	default:
		if !v.IsZero() {
			add(path, fmt.Sprint(v.Interface()))
		}
	}
}

// get gives the value under a path, or nothing.
func get(list []field, path string) string {
	if i := slices.IndexFunc(list, func(f field) bool { return f.path == path }); i >= 0 {
		return list[i].value
	}
	return ""
}
