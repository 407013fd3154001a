"""The words of ECG reports in English, German and Swedish, and the term that each stands for.

Terms are what `finding_rules` is written in: `right bundle block` whether a report says "RBBB", "Rechtsschenkelblock",
"högersidigt skänkelblock" or, machine-translated, "right leg block". A key is one term or several in their order; its
words are separated by spaces. `*` stands for any ending, `_` for the space of a phrase. Compounds need no entry of
their own ("Vorhofflimmern" is "vorhof" and "flimmern"), nor do umlauts in their other spellings: `report_terms.fold`.
"""

ENGLISH = {
    # What is looked at.
    "ecg": "ecg ecgs electrocardiogram* tracing trace tracings finding findings ecg_findings study egk",
    "st": "st st_segment* sts",
    "st change": "st_deviation* st_segment_deviation* st_shift*",
    "t": "t t_wave* twave* t_wave_amplitude*",
    "stt": "st_t st_/_t st_&_t st_and_t st_segment_and_t st_segments_and_t st_or_t stt st_segment_or_t st_segment_t",
    "qrs": "qrs qrs_t qrs_(_t_) qrs_/_t qrs_complex*",
    "q": "q_wave* q qs pathological_q qs_complex*",
    "r": "r r_wave*",
    "progression": "progression ptogression progr r_progression r_wave_progression r_wave_progr* progression_of_r",
    "qt": "qt qtc qt_interval* qtc_interval* qt_duration qtc_duration",
    "pr": "pr pq pr_interval* pq_interval*",
    "p": "p p_wave*",
    "u": "u u_wave*",
    "axis": "axis axes axle position_type layer_type location_type lag_type team_type electrical_axis qrs_axis "
    "position_typ electrical_position heart_axis",
    "type": "type deposition_type",
    "voltage": "voltage* volage amplitude*",
    "repolarisation": "repolari* repol rep.",
    "conduction": "conduction impulse_conduction conducted",
    "quality": "quality data_quality signal_quality",
    "transition": "transition r_s zone rs clockwise counterclockwise",
    "variant": "variant* function intervals rsr* morphology risk analysis considering compensatory_pause* "
    "permanent_pacing normal_variant* normal_for_age",
    # How it is.
    "normal": "normal* within_normal_limits unremarkable inconspicuous nornal wnl",
    "otherwise": "otherwise",
    "abnormal": "abnormal* abnorm* abn abnrm",
    "aberrant": "aberrant*",
    "pathological": "pathol* path path. pat_ecg pathologic pathology",
    "borderline": "borderline grenz* verging",
    "depressed": "depress* lowering lowered slowing st_decrease decrease sink* sagging downslop*",
    "elevated": "elevat* elev raised",
    "inverted": "inver* invwrted negative neg neg. negativ",
    "flat": "flat flattened flattening flatening flach* flch",
    "low": "low reduced diminished lower",
    "high": "high tall pointed peaked taller hyperacute prominent excessive increased",
    "low t": "low_amplitude_t low_amplitude_t_wave* low_voltage_t_wave*",
    "small": "small tiny poor loss lack missing lost reduction",
    "wide": "wide widened widening broad broadened broadening",
    "long": "long prolong* lengthened lengthening extended",
    "short": "short shortened shortening",
    "biphasic": "biphas* bifid notched discordant",
    "change": "change* alteration* chan",
    "disturbance": "disturb* disorder* defect*",
    "delayed": "delay* slowed retard*",
    # What tells one from another.
    "sinus": "sinus sinusal sin. sinus_node",
    "atrial": "atrial atrium atria auric* anterior_chamber front_chamber",
    "supraventricular": "supraventric* supraventr supraventr. supraven sv supra_ventricular",
    "ventricular": "ventric* venric* ventr ventr. vent ven",
    "junctional": "junctional nodal av_nodal av_node a_v_nodal node av_junctional",
    "idioventricular": "idioventr*",
    "ectopic": "ectopic wandering chaotic",
    "ectopic atrial": "multifocal_atrial low_atrial",
    "escape": "escape",
    "premature": "premature remature extra premture",
    "accelerated": "accelerated",
    "absolute": "absolute irregularly_irregular",
    "left": "left leftward* left_sided link links lef",
    "right": "right rightward* right_sided",
    "superior": "superior",
    "vertical": "vertical steep",
    "vertical axis": "steep_position steep_angle",
    "horizontal": "horizontal",
    "intermediate": "intermediate indifferen* middle mid_position",
    "sagittal": "sagit* s1q3 s1s2s3 si_sii_siii s1q3_type siqiii",
    "undetermined": "undeterm* indeterm* uncertain* uncert* uncer unknown not_determinabl* not_to_be_determined "
    "cannot_be_determined difficult_to_determine age_unconfirmed age_inconfirmed age_not_confirmed inconfirmed "
    "difficult_to_be_determined indefinite not_determined unb unbest unbest.",
    "bundle": "bundle bundle_branch leg shin tibial femoral calf thigh pedicle bbb branch fascicle",
    "fascicular": "fascic* fasic* hemifascic*",
    "bifascicular": "bifascic* trifascic* bifasic* trifasic*",
    "intraventricular": "intraventr* intraventr. ntraventr* intravenr* iv_conduction interventr*",
    "av": "av a_v atrioventric* atrio_ventricular",
    "sinoatrial": "sinoatr* sino_atrial sa s_a",
    "first": "1st first first_degree 1st_degree grade_1 grade_i degree_1",
    "second": "2nd second second_degree 2nd_degree grade_2 grade_ii high_grade advanced",
    "third": "3rd third third_degree 3rd_degree grade_3 grade_iii",
    "complete": "complete total compl compl.",
    "incomplete": "part. incompl* partial partially incipient",
    "myocardial": "myocard* myocar* inner_layer",
    "subendocardial": "subendo*",
    "coronary": "coronary",
    "heart": "heart",
    "leads": "lead leads",
    "anterior septal": "anterosep*",
    "anterior": "anterior* antero* ant ant. antetior anterior_wall anteriorly front",
    "septal": "septal* septum septaly",
    "lateral": "lateral* lat lat. high_lateral* high_lat. hoch_lateral* hochlateral* hög_lateral* hochseiten*",
    "inferior": "inferior* infero* inf inf. inferiorly diaphragmatic interior",
    "posterior": "posterior* postero* post. posteriorly dorsal",
    "rapid": "rapid fast uncontrolled",
    "slow": "slow",
    "age": "age date",
    "acute": "acute fresh",
    "recent": "recent subacute recently",
    "old": "old older elderly healed previous prior residual chronic chron chron. remote former",
    # What is found.
    "rhythm": "rhythm* rhytm ryhthm",
    "tachycardia": "tachycard* taschykardie tachy",
    "bradycardia": "bradycard* bradicardia brady",
    "arrhythmia": "arrhythm* arrythm* arhythm*",
    "fibrillation": "fibrillat* fibrilat* flicker",
    "flutter": "flutter*",
    "beat": "beat* complex complexes contraction* systole* depolarization* depolarisation*",
    "premature beat": "extrasystol* extasystol* extra_systole* ectopy ectopics ectopies extrabeat* premature_beat* "
    "extra_beat*",
    "beat after": "or_aberrantly_conducted_complex* or_aberrantly_conducted_beat*",
    "bigeminy": "bigemin* bigemim* trigemin* quadrigemin*",
    "rate": "rate response frequency",
    "pause": "pause* sinus_arrest arrest standstill",
    "pacemaker": "pacemaker* paced pacing pacer* spikes pace",
    "block": "block blocks blockade",
    "fascicular block": "hemiblock* hemmiblock* hemi_block",
    "preexcitation": "wpw wolff* wolf_parkinson* wolf preexcit* pre_excit* delta_wave* delta",
    "hypertrophy": "hypertroph* hypertro* hypertophy",
    "strain": "strain* stra load* overload*",
    "enlargement": "enlarg* enllarg* dilat* overloading",
    "infarct": "infar* infract* imfarct* inarct* infarcts myocardial_infarction mi heart_attack",
    "old infarct": "scar scars",
    "damage": "damage* necrosis necrot*",
    "injury": "injur*",
    "ischaemia": "coronary_syndrome* ischaem* ischem* ischa* ischae* oschaemia",
    "involvement": "involve* envolve* affection*",
    "disease": "disease",
    "aneurysm": "aneurysm* aneur",
    "early_repolarisation": "early_repolari* early_repol",
    "pericarditis": "pericarditis perimyocard*",
    "digitalis": "digital* digox*",
    "electrolyte": "electrolyt* potassium hypokal* hyperkal* hypoka hypocalc* hypercalc* drug drugs "
    "medication_effect hypomagn* antiarrhythmic*",
    "artefact": "artifact* artefact* noise noisy tremor* baseline_drift baseline_wander* baselinedrift "
    "baselinewander* drift wander unsuitable interference motion",
    "reversal": "reversal* reversed interchange* swapped swap misplace*",
    # How sure it is.
    "neg": "no not without absence_of nothing none neither negative_for free_of never rather_than no_longer absence "
    "no_evidence_of no_evidence no_signs_of no_sign_of isn't little_evidence_of little_evidence_for lacks against "
    "nothing_to_suggest has_replaced have_replaced replaces",
    "neg_after": "not_present not_seen not_evident not_detected not_found not_noted not_identified not_visible "
    "is_absent are_absent ruled_out was_excluded no_longer_present no_longer_seen no_longer_evident has_resolved "
    "has_disappeared disappeared not_demonstrated "
    "not_apparent is_no_longer_present not_observed been_ruled_out been_excluded not_met not_fulfilled not_satisfied "
    "cannot_be_seen can_not_be_seen is_gone are_gone has_been_replaced replaced_by",
    "neg_either": "absent unlikely is_unlikely excluded resolved",
    "nothing": "no_change no_changes no_significant_change no_interval_change without_change no_significant_changes "
    "not_only not_significantly_changed not_significant not_changed unchanged cause_of no_further_analysis "
    "not_necessarily no_previous_ecg no_prior_ecg no_previous_tracing no_doubt without_doubt without_a_doubt "
    "assumes_no_reversal no_acute_change* no_new_change* without_significant_change* without_interval_change* "
    "not_seen_previously not_seen_before not_previously_seen not_seen_on_prior not_seen_on_previous "
    "not_seen_on_the_previous not_seen_on_the_prior not_present_previously not_present_before not_previously_present "
    "not_present_on_prior not_present_on_previous not_present_on_the_prior not_present_on_the_previous",
    "instead": "risk_of at_risk_of developing risk_for not_specific_for not_diagnostic_of not_diagnostic_for",
    "unread": "cannot_be_assessed can_not_be_assessed cannot_be_evaluated cannot_be_interpreted not_assessable",
    "suspected": "suspected suspect questionable equivocal",
    "may": "possible_cause_of suspicion* consider cannot_rule_out can_not_rule_out cannot_exclude can_not_exclude "
    "could_not_rule_out may might could rule_out r_/_o query suggest* suggestive suggesting suggested consistent "
    "consistant in_keeping_with compatible indicat* such_as as_in such_as_in as_with represent* exclude to_exclude "
    "commonly to_rule_out concern* suspicious raise* favor* cant_rule_out unable_to_rule_out differential dd dd_: "
    "cannot_entirely_exclude can't_rule_out can't_exclude not_exclude does_not_exclude do_not_exclude doubtful "
    "could_be may_be consistent_with_but_not_diagnostic_of possibility whether raising cannot_be_distinguished_from "
    "indistinguishable_from",
    "perhaps": "possibl* possable posssible possib probabl* likely apparent* perhaps presumably presumed potential* "
    "is_likely are_likely",
    "after": "cannot_be_excluded can_not_be_excluded cannot_be_entirely_excluded cannot_be_ruled_out "
    "can_not_be_ruled_out not_excluded is_not_excluded not_ruled_out should_be_considered "
    "cannot_be_completely_excluded is_suspected are_suspected is_possible are_possible cannot_be_safely_excluded "
    "not_entirely_excluded could_not_be_excluded be_considered cannot_be_definitely_excluded a_likely_cause "
    "is_a_likely_cause is_a_possible_cause likely_cause possible_cause must_be_considered was_considered "
    "is_considered cannot_be_excl* cannot_be_exc or_aberrant or_aberrantly is_questionable not_be_excluded "
    "not_be_ruled_out are_likely_causes",
    "due": "due because secondary reflect* caused explained",
    # What joins and parts.
    "and": "and plus & +",
    "or": "or nor versus vs /",
    "of": "of",
    "in": "in involving over throughout",
    "with": "with during",
    "but": "but however although though except which while whereas this these it they and_the and_there",
}

GERMAN = {
    "ecg": "ekg ekgs elektrokardiogramm* befund kurve ruhe_ekg",
    "st": "st_strecke* st_segment*",
    "t": "t_welle* t_zacke*",
    "stt": "st_t_strecke* st_und_t",
    "q": "q_zacke*",
    "r": "r_zacke*",
    "qrs": "qrs_komplex*",
    "progression": "r_progression",
    "qt": "qt_zeit qtc_zeit",
    "pr": "pq_zeit pq_intervall",
    "p": "p_welle*",
    "axis": "lagetyp* achse* lage el_achse",
    "type": "typ",
    "voltage": "spannung* amplituden*",
    "repolarisation": "kammerendteil* endteil* endstrecken* endstrecke rückbildung* erregungsrückbildung* "
    "repolarisation*",
    "conduction": "leitung* leistung* erregungsleitung* überleitung* erregungsausbreitung*",
    "quality": "qualität signalqualität",
    "transition": "übergang* bergang",
    "normal": "normal* unauffällig* regelrecht* regelgerecht*",
    "otherwise": "sonst ansonsten",
    "abnormal": "abnormal* abnormes auffällig*",
    "pathological": "pathologisch* pathologsich*",
    "borderline": "grenzwertig* grenz",
    "depressed": "senkung* gesenkt*",
    "elevated": "hebung* hebunh gehoben* angehoben* anhebung*",
    "inverted": "negativ* invertiert* negativierung*",
    "flat": "flach* abgeflacht* abflachung*",
    "low": "nieder niedrig* klein",
    "voltage low": "niedervoltage*",
    "high": "hoch hohe hohes hoher spitz* überhöht*",
    "small": "schlecht* verlust fehlend* reduktion klein* mangelnd* geringe verzögert*",
    "wide": "verbreiter* breit*",
    "long": "verlänger* lang",
    "short": "verkürz* kurz",
    "biphasic": "biphasisch* diskordant*",
    "change": "veränderung*",
    "disturbance": "störung*",
    "delayed": "verzögerung*",
    "atrial": "vorhof* vorhöf*",
    "supraventricular": "supraventrik*",
    "ventricular": "ventrik* kammer*",
    "junctional": "av_knoten* knoten* junktional* avknoten*",
    "ectopic": "wandernd* warnend* ektop*",
    "escape": "ersatz*",
    "absolute": "absolut* absoluta",
    "left": "links linke linken linker linkslage*",
    "left axis": "linkslagetyp* llt linkstyp* linktype",
    "right": "rechts rechte rechten rechter",
    "right axis": "rechtslagetyp* rlt rechtstyp*",
    "vertical": "steil*",
    "vertical axis": "steillage* slt steiltyp* steillagetyp*",
    "horizontal": "horizontal* quer",
    "intermediate": "indifferen* mittel* indiff indiff.",
    "intermediate axis": "mittellagetyp* mlt mllt indifferenztyp* indifferenzlage*",
    "sagittal": "sagittal* sagital*",
    "sagittal axis": "sagittaltyp*",
    "undetermined": "unbestimm* unbekannt* nicht_bestimmbar schwierig_bestimmbar* unklar* nicht_bestimmt",
    "bundle": "schenkel*",
    "fascicular": "faszikul*",
    "bifascicular": "bifaszik* trifaszik*",
    "intraventricular": "intraventrik*",
    "sinoatrial": "sinuatrial* sinoatrial*",
    "first": "ersten ersten_grades erstgradig*",
    "second": "zweiten zweiten_grades zweitgradig*",
    "third": "dritten dritten_grades drittgradig*",
    "complete": "komplett* vollständig* kompl kompl. totaler",
    "incomplete": "inkomplett* unvollständig* unvollst unvollst. partiell* angedeutet*",
    "myocardial": "myokard* herz",
    "subendocardial": "subendokard* innenschicht*",
    "coronary": "koronar*",
    "leads": "ableitung*",
    "anterior": "vorderwand* vw",
    "inferior": "hinterwand*",
    "septal": "vorderseptal",
    "lateral": "seitenwand*",
    "rapid": "schnell* rasch*",
    "slow": "langsam*",
    "age": "alters zeitpunkt",
    "acute": "akut* frisch*",
    "recent": "subakut* kürzlich*",
    "old": "alt alte alten alter altes älter* chronisch* abgelaufen* zustand_nach z_._n_.",
    "rhythm": "rhythmus*",
    "tachycardia": "tachykard* tachycardie",
    "bradycardia": "bradykard* bradycardie",
    "arrhythmia": "arrhythmi*",
    "fibrillation": "flimmer* flimmern",
    "flutter": "flattern",
    "beat": "schlag schläge systole*",
    "premature beat": "extrasystol*",
    "premature atrial beat": "vorhof_es vorhofes atrial_es",
    "premature ventricular beat": "ventr_es ventr._es",
    "premature junctional beat": "av_es",
    "rate": "frequenz* überleitungsfrequenz",
    "pacemaker": "schrittmacher*",
    "block": "block*",
    "preexcitation": "präexzitation* delta_welle*",
    "hypertrophy": "hypertrophie*",
    "strain": "belastung* überlastung* überbelastung*",
    "infarct": "infarkt* herzinfarkt*",
    "old infarct": "narbe*",
    "damage": "schaden* schädigung* nekrose*",
    "ischaemia": "ischämi* koronarsyndrom*",
    "aneurysm": "aneurysma*",
    "early_repolarisation": "frühe_repolarisation*",
    "pericarditis": "perikarditis perimyokarditis",
    "digitalis": "digitalis* glykosid*",
    "electrolyte": "elektrolyt* kalium* medikament* hypokali* hyperkali*",
    "artefact": "artefakt* verwackel* rauschen muskelzittern baselinewandern",
    "quality small": "schlechte_qualität schlechte_signalqualität",
    "reversal": "vertauscht* vertauschung* verpolt* verpolung*",
    "neg": "nein kein keine keinen keiner keines keinem keinerlei weder ohne nicht kein_hinweis_auf "
    "keine_hinweise_auf kein_anhalt_für nichts",
    "neg_after": "unwahrscheinlich fehlt fehlen nicht_erkannt nicht_vorhanden nicht_nachweisbar nicht_erkennbar "
    "nicht_nachgewiesen ausgeschlossen ist_ausgeschlossen liegt_nicht_vor liegen_nicht_vor findet_sich_nicht "
    "finden_sich_nicht",
    "nothing": "alter_fehlt keine_änderung keine_veränderung unverändert ohne_änderung",
    "unread": "nicht_beurteilbar nicht_zu_beurteilen",
    "suspected": "fraglich* fragl fragl.",
    "may": "verdacht v_._a_. va hinweis_auf vereinbar_mit evtl eventuell zum_ausschluss ausschluss wie_bei passend_zu",
    "perhaps": "möglich* mögl mögl. wahrscheinlich* vermutlich* wahrsch wahrsch. vielleicht",
    "after": "nicht_auszuschliessen nicht_auszuschließen nicht_ausgeschlossen nicht_sicher_auszuschließen "
    "nicht_sicher_auszuschliessen in_betracht_ziehen zu_erwägen kann_nicht_ausgeschlossen_werden "
    "nicht_ausgeschlossen_werden",
    "due": "bedingt infolge aufgrund wegen",
    "and": "und sowie",
    "or": "oder bzw noch",
    "of": "von des der",
    "in": "im über in_ableitung",
    "with": "mit bei",
    "but": "aber jedoch und_die und_der und_das",
}

SWEDISH = {
    "ecg": "fynd ekg",
    "st": "st_sträcka*",
    "t": "t_våg*",
    "stt": "st_t_sträcka*",
    "q": "q_våg*",
    "r": "r_våg*",
    "p": "p_våg*",
    "u": "u_våg*",
    "axis": "axel el_axel elaxel",
    "voltage": "amplituder amplitudkrit* amplitud*",
    "conduction": "överledning* ledning*",
    "conduction disturbance": "retledningshinder*",
    "normal": "normalt",
    "otherwise": "eljest annars övrigt i_övrigt",
    "aberrant": "avvikande",
    "abnormal": "onormal*",
    "pathological": "patologi*",
    "borderline": "gräns*",
    "depressed": "sänkning* sänkt*",
    "elevated": "höjning* höjd* förhöjd*",
    "inverted": "negativa inverterad*",
    "flat": "flack*",
    "low": "låg låga lågt",
    "high": "hög höga",
    "small": "små_r dålig",
    "wide": "breddökad* breddad* breda",
    "long": "förläng*",
    "short": "förkort*",
    "change": "förändring*",
    "disturbance": "rubbning*",
    "sinus": "sinus",
    "atrial": "förmak*",
    "supraventricular": "supraventrikulär*",
    "ventricular": "kammar* ventrikulär*",
    "left": "vänster* väns",
    "right": "höger* högersidig*",
    "undetermined": "ej_bestämmbar ej_bestämbar svårbestämmbar* obestämbar* obestämd*",
    "bundle": "skänkel* gren",
    "bifascicular": "bifascikulär*",
    "intraventricular": "intraventrikulär*",
    "incomplete": "inkomplett* partiellt",
    "complete": "komplett*",
    "first": "grad_1 grad_i",
    "second": "grad_2 grad_ii",
    "third": "grad_3 grad_iii",
    "leads": "avledning*",
    "anterior": "främre framvägg*",
    "posterior": "bakre",
    "inferior": "bakvägg* undervägg*",
    "septal": "septal*",
    "rapid": "snabb*",
    "slow": "långsam*",
    "age": "ålder*",
    "acute": "färsk* akut*",
    "old": "äldre gammal gammalt gamla tidigare",
    "rhythm": "rytm*",
    "tachycardia": "takykardi*",
    "bradycardia": "bradykardi*",
    "arrhythmia": "arytmi*",
    "fibrillation": "flimmer*",
    "flutter": "fladder*",
    "beat": "slag",
    "premature beat": "extraslag extrasystoli*",
    "rate": "frekvens*",
    "pacemaker": "pacemakerrytm* pacemaker*",
    "hypertrophy": "hypertrofi*",
    "strain": "belastning* överbelastning*",
    "infarct": "hjärtinfarkt* infarkt*",
    "damage": "skada skador",
    "ischaemia": "ischemi* ischämi*",
    "involvement": "affektion* påverkan",
    "myocardial": "myokard*",
    "electrolyte": "kalium* läkemedel*",
    "artefact": "brus störd",
    "reversal": "förväxl*",
    "neg": "ej inte inget inga ingen utan varken",
    "neg_after": "ej_funna ej_påvisad saknas",
    "nothing": "oförändrat ingen_förändring",
    "suspected": "misstänk*",
    "may": "överväg såsom_vid som_vid misstanke tyder",
    "perhaps": "möjlig* sannolik* troligen",
    "after": "bör_övervägas kan_ej_uteslutas kan_inte_uteslutas ej_uteslutas",
    "and": "och samt",
    "or": "eller",
    "of left": "av_vänster",
    "of right": "av_höger",
    "in": "i_avledning på",
    "with": "med vid",
    "but": "men som",
}

# Clinical shorthand and SCP-ECG's statements, the same in every language.
ABBREVIATIONS = {
    "sinus rhythm": "sr nsr",
    "sinus bradycardia": "sbrad",
    "sinus tachycardia": "stach",
    "sinus arrhythmia": "sarrh sarrhy",
    "atrial fibrillation": "af afib a_fib vhf",
    "atrial flutter": "afl aflt aflutter",
    "supraventricular tachycardia": "svt svtac psvt pat avnrt avrt",
    "supraventricular arrhythmia": "svarr",
    "ventricular tachycardia": "vt nsvt vtach v_tach torsade* tdp",
    "premature ventricular beat": "pvc pvcs ves vpb vpbs vpc vpcs pvb pvbs",
    "premature atrial beat": "pac pacs apc apcs sves apb apbs sve",
    "premature beat": "prc",
    "bigeminy": "bigu trigu",
    "rapid rate": "rvr",
    "av block": "avb",
    "first av block": "1avb lpr of_block_in of_block_i of_block_ip from_block_in av_block_in a_v_block_in",
    "second av block": "2avb mobitz* wenckebach*",
    "third av block": "3avb chb",
    "right bundle block": "rbbb crbbb rsb",
    "left bundle block": "lbbb clbbb lsb",
    "incomplete right bundle block": "irbbb irbb icrbbb",
    "incomplete left bundle block": "ilbbb",
    "left anterior fascicular block": "lafb lahb lah",
    "left posterior fascicular block": "lpfb lphb",
    "intraventricular block": "ivcd ivcb",
    "left hypertrophy": "lvh vclvh",
    "right hypertrophy": "rvh",
    "left ventricular": "lv",
    "right ventricular": "rv",
    "left ventricular right ventricular": "biventric*",
    "left atrial": "la",
    "right atrial": "ra",
    "septal hypertrophy": "sehyp",
    "left atrial enlargement": "lae lao sinistrocardial* sinistrokardial* sinistroatrial* p_sinistro* p_mitrale "
    "mitrale",
    "right atrial enlargement": "rae rao dextrocardial* dextroatrial* dextrokardial* p_dextro* p_pulmonale pulmonale",
    "left atrial right atrial enlargement": "biatrial*",
    "left axis": "lad",
    "right axis": "rad",
    "ecg normal": "norm",
    "qrs abnormal": "abqrs",
    "q": "qwave",
    "progression small": "prwp",
    "voltage low": "lvolt",
    "voltage high": "hvolt",
    "inferior infarct": "imi ilwmi iwmi hwi",
    "anterior infarct": "awmi vwi",
    "anterior septal infarct": "asmi",
    "anterior lateral infarct": "almi",
    "inferior lateral infarct": "ilmi",
    "lateral infarct": "lmi",
    "posterior infarct": "pmi",
    "posterior lateral infarct": "plmi",
    "inferior posterior infarct": "ipmi",
    "inferior posterior lateral infarct": "iplmi",
    "infarct": "ami",
    "acute infarct": "nstemi nste_mi non_stemi non_st_elevation_mi non_st_elevation_myocardial_infarction "
    "non_st_segment_elevation_myocardial_infarction",
    "acute infarct st elevated": "stemi st_elevation_mi st_elevation_myocardial_infarction st_elevation_infarct* "
    "st_segment_elevation_myocardial_infarction ste_mi",
    "injury": "inj",
    "anterior septal injury": "injas",
    "anterior lateral injury": "injal",
    "inferior injury": "injin",
    "lateral injury": "injla",
    "inferior lateral injury": "injil",
    "ischaemia": "isc isch acs",
    "anterior lateral ischaemia": "iscal",
    "inferior ischaemia": "iscin",
    "inferior lateral ischaemia": "iscil",
    "anterior septal ischaemia": "iscas",
    "lateral ischaemia": "iscla",
    "anterior ischaemia": "iscan",
    "coronary disease": "cad chd ihd khk",
    "st depressed": "std",
    "st elevated": "ste",
    "st abnormal": "nst",
    "t abnormal": "ndt nt tab",
    "t inverted": "invt tneg twi",
    "t flat": "lowt",
    "stt abnormal": "nstt nsstt* sttwa",
    "qt long": "lngqt lqts",
}

# Words of these languages that stand for no term: they tell only the language.
ENGLISH_ONLY = (
    "a about after again all also an analyzed any apical appears are arm as at available basically be been before "
    "being between both brief by can case cause certain certainly chamber chest clinical clinically clinician common "
    "compared computer consensus correlation could course crit crit. criteria data deep deg demand definite "
    "definitely degree "
    "demonstrated demonstrates demonstrating derived detected determinable determine developed deviation diagnostic "
    "did difficult diffuse discrete displaced do does during each earlier early edit effect either electric electronic "
    "electrical electrode electrodes especially evidence evident exercise exists extensive extreme extremely "
    "extremities extremity features for found frequent from further generalized generally grade gross grossly had has "
    "have he her his how hyperexcited hyperrotated hyperrotation identified if impulse including inner intermittent "
    "interpolated interposed interpretation interval into irregular is isolated it its just label layer less level "
    "like limb limit limits little location many marked markedly medication mid mild mildly min minimal minor minute "
    "moderate moderately more most much multiform multiforme multiple narrow new no non nonspecific normocardiac "
    "normocardic not noted now occasional often on one only other our out over overall overrotated paroxysmal patient "
    "pattern per performed peripheral persist persists please position precordial present previously propagation "
    "pulse raised rather reading recommended recorded regular repeat report requested respiratory resting review "
    "rotated same see seen segment segments selected severe shaped sharp she shifted should show showing shows sided "
    "sign significance significant significantly signs similar since single slight slightly so some specific "
    "spontaneous still stress such suggest summary syndrome tends terminal than that the then therapy there these "
    "this those three time to today together two typical unconfirmed under uniform unspecific unspecified unusual up "
    "upper upright usual usually variable very view wall warning was wave waves we were what when where whether which "
    "who why widespread will within without would yet you your"
)
GERMAN_ONLY = (
    "als an auch auf aus brustwand danach dann das dem den deutliche die eher ein eine einem einer eines erfolgreiche "
    "erneut etwas für grad grades ist jetzt konstant kriterien leichte mässige nach neu nur periphere puls "
    "regelmässiger rhythmus seit sicher signifikante signifikanten signifikanter sind stabil teilweise typ unspez "
    "unspez. unspezifisch unspezifische "
    "unspezifischer unspezifisches unter unveränderter verlauf vor wand war werden wie wird zu zum zur überdreht "
    "überdrehter"
)
SWEDISH_ONLY = (
    "att bröstavledningarnas de den det ett extrem extremitetsavledningarna fanns från funna för förlopp förskjuten "
    "hade har hos inom jmf litet lätt mot måttliga nu nytillkommit och om ospecifik ospecifikt pågående regelbunden "
    "sedan säkert så till typ utbredda var är åt"
)
# Small words of other languages, which share most medical words with these.
ELSEWHERE = (
    "de la les du et une avec sans pas est au aux los las del con sin por que di il della che da do com na os het van "
    "en niet og ikke "
    # Words of ECG reports, as `fold` leaves them; those that English or German has too are not here.
    "rythme ritmo ritme hartritme sinusale sinusaal frequence frecuencia frequenza frequencia bloc bloqueo blocco "
    "bloqueio gauche droit droite izquierdo izquierda derecho derecha sinistro sinistra destro destra esquerdo "
    "esquerda direito direita infarctus infarto onde ondes onda ondas auriculaire ventriculaire atriale ventricolare "
    "fibrilacion fibrillazione fibrilacao taquicardia tachicardia bradicardia axe eje asse eixo limites dentro "
    "anormal anormale particularite normaal"
)
