"""What makes claims safe to hand to the client: encrypted, signed, or as a JWT.

| sealer | the client can | use it for |
|---|---|---|
| `aesgcm.AESGCMSealer` | neither read nor change | cookies, unless there is a reason against it |
| `hmac.HMACSealer` | read, not change | values that front-end code shows |
| `jwt.JWTSealer` | read (or not, with `encrypt=True`), not change | tokens that other software verifies or writes |
"""
