package ceremony

type uptaneState struct{}

func (u *uptaneState) carry() *uptaneState { return u }
