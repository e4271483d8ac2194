//! JSON bodies. As in Wings, the content type does not matter, keys may be in any case, and anything after the first JSON value is
//! ignored. Source: HTTP API, "Transport".

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ApiError;
use super::request::RequestBody;

/// Reads an object from a request.
///
/// # Errors
/// The body cannot be read, is empty, is not JSON, is no object, or has a value of the wrong type.
pub fn object<T: DeserializeOwned>(body: &RequestBody) -> Result<T, ApiError> {
    let Value::Object(object) = value(body)? else {
        return Err(ApiError::BadBody("expected an object".into()));
    };
    let lower: serde_json::Map<String, Value> = object
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.to_lowercase(), value))
        .collect();
    serde_json::from_value(Value::Object(lower)).map_err(bad)
}

/// Reads the first JSON value of a request.
///
/// # Errors
/// The body cannot be read, is empty, or is not JSON.
pub fn value(body: &RequestBody) -> Result<Value, ApiError> {
    let body = body.bytes()?;
    let first = serde_json::Deserializer::from_slice(body).into_iter::<Value>().next();
    first.ok_or(ApiError::NoBody)?.map_err(bad)
}

fn bad(error: serde_json::Error) -> ApiError {
    ApiError::BadBody(error.to_string())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Example {
        #[serde(default)]
        uuid: String,
        #[serde(default)]
        start_on_completion: bool,
    }

    fn read(text: &'static str) -> Result<Example, ApiError> {
        object(&RequestBody::from(text))
    }

    #[test]
    fn what_wings_accepts_is_accepted() {
        let full = Example { uuid: "x".into(), start_on_completion: true };
        assert_eq!(read(r#"{"uuid":"x","start_on_completion":true,"more":1}"#).unwrap(), full);
        assert_eq!(read(r#"{"UUID":"x","Start_On_Completion":true} trailing"#).unwrap(), full);
        assert_eq!(read("{}").unwrap(), Example { uuid: String::new(), start_on_completion: false });
        assert_eq!(read(r#"{"uuid":null}"#).unwrap().uuid, "");
    }

    #[test]
    fn other_bodies_are_rejected() {
        assert!(matches!(read(""), Err(ApiError::NoBody)));
        for text in ["{", "[]", "\"text\"", "5", r#"{"uuid":5}"#, r#"{"uuid": null, "x": }"#] {
            assert!(matches!(read(text), Err(ApiError::BadBody(_))), "{text}");
        }
    }
}
