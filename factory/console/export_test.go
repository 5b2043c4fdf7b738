package console

// ActNames lists the acts.
func ActNames() (names []string) {
	for _, a := range (&Console{}).allActs() {
		names = append(names, a.Name)
	}
	return names
}

// Words of the pages.
var (
	Reason = reason
	Kind   = kind
)
