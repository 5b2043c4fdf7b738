package ceremony

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// plainScalar is what YAML reads as a string without quotes, whatever its version.
var plainScalar = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9./_-]*( [A-Za-z0-9./_-]+)*|\.\./[A-Za-z0-9./_-]+|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z)$`)

// scalar is a string as a script writes it.
func scalar(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
		return strconv.Quote(s)
	}
	if plainScalar.MatchString(s) {
		return s
	}
	return strconv.Quote(s)
}

// flow is a step in one line; what is empty is left out.
func flow(v any) string {
	var parts []string
	eachField(v, func(key, value string) { parts = append(parts, key+": "+value) })
	return "{" + strings.Join(parts, ", ") + "}"
}

// block is a step with one line for each field.
func block(v any, indent string) string {
	var b strings.Builder
	eachField(v, func(key, value string) { fmt.Fprintf(&b, "%s%s: %s\n", indent, key, value) })
	return b.String()
}

func eachField(v any, add func(key, value string)) {
	s := reflect.Indirect(reflect.ValueOf(v))
	for i := range s.NumField() {
		key, _, _ := strings.Cut(s.Type().Field(i).Tag.Get("yaml"), ",")
		if f := s.Field(i); key != "" && key != "-" && !f.IsZero() {
			add(key, value(f))
		}
	}
}

func value(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer:
		return value(v.Elem())
	case reflect.Struct:
		return flow(v.Interface())
	case reflect.Slice:
		var items []string
		for i := range v.Len() {
			items = append(items, value(v.Index(i)))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.String:
		return scalar(v.String())
	}
	return fmt.Sprint(v.Interface())
}
