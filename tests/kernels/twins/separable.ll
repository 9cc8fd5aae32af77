; ModuleID = "separable"
target triple = "x86_64-unknown-linux-gnu"
target datalayout = ""

define void @"task"(ptr noundef %".1", i64 noundef %".2", i64 noundef %".3") noinline
{
entry:
  %".5" = getelementptr inbounds ptr, ptr %".1", i64 2
  %".6" = load ptr, ptr %".5", align 8
  %".7" = getelementptr inbounds ptr, ptr %".1", i64 3
  %".8" = load ptr, ptr %".7", align 8
  %".9" = getelementptr inbounds ptr, ptr %".1", i64 4
  %".10" = load ptr, ptr %".9", align 8
  %".11" = getelementptr inbounds ptr, ptr %".1", i64 5
  %".12" = load ptr, ptr %".11", align 8
  %".13" = getelementptr inbounds ptr, ptr %".1", i64 6
  %".14" = load ptr, ptr %".13", align 8
  %".15" = getelementptr inbounds ptr, ptr %".1", i64 7
  %".16" = load ptr, ptr %".15", align 8
  %".17" = getelementptr inbounds ptr, ptr %".1", i64 8
  %".18" = load ptr, ptr %".17", align 8
  %".19" = getelementptr inbounds ptr, ptr %".1", i64 9
  %".20" = load ptr, ptr %".19", align 8
  %".21" = getelementptr inbounds ptr, ptr %".1", i64 10
  %".22" = load ptr, ptr %".21", align 8
  %".23" = getelementptr inbounds ptr, ptr %".1", i64 11
  %".24" = load ptr, ptr %".23", align 8
  %".25" = getelementptr inbounds ptr, ptr %".1", i64 12
  %".26" = load ptr, ptr %".25", align 8
  %".27" = getelementptr inbounds ptr, ptr %".1", i64 13
  %".28" = load ptr, ptr %".27", align 8
  %".29" = getelementptr inbounds ptr, ptr %".1", i64 14
  %".30" = load ptr, ptr %".29", align 8
  %".31" = getelementptr inbounds ptr, ptr %".1", i64 15
  %".32" = load ptr, ptr %".31", align 8
  %".33" = getelementptr inbounds ptr, ptr %".1", i64 16
  %".34" = load ptr, ptr %".33", align 8
  %".35" = getelementptr inbounds i64, ptr %".1", i64 17
  %".36" = load i64, ptr %".35", align 8
  %".37" = getelementptr inbounds i64, ptr %".1", i64 18
  %".38" = load i64, ptr %".37", align 8
  %".39" = getelementptr inbounds i64, ptr %".1", i64 19
  %".40" = load i64, ptr %".39", align 8
  %".41" = getelementptr inbounds i64, ptr %".1", i64 20
  %".42" = load i64, ptr %".41", align 8
  %".43" = getelementptr inbounds i64, ptr %".1", i64 21
  %".44" = load i64, ptr %".43", align 8
  %".45" = getelementptr inbounds i64, ptr %".1", i64 22
  %".46" = load i64, ptr %".45", align 8
  %".47" = getelementptr inbounds i64, ptr %".1", i64 23
  %".48" = load i64, ptr %".47", align 8
  %".49" = getelementptr inbounds i64, ptr %".1", i64 24
  %".50" = load i64, ptr %".49", align 8
  %".51" = getelementptr inbounds i64, ptr %".1", i64 25
  %".52" = load i64, ptr %".51", align 8
  %".53" = getelementptr inbounds i64, ptr %".1", i64 26
  %".54" = load i64, ptr %".53", align 8
  %".55" = getelementptr inbounds i64, ptr %".1", i64 27
  %".56" = load i64, ptr %".55", align 8
  %".57" = getelementptr inbounds i64, ptr %".1", i64 28
  %".58" = load i64, ptr %".57", align 8
  %".59" = getelementptr inbounds i64, ptr %".1", i64 29
  %".60" = load i64, ptr %".59", align 8
  %".61" = getelementptr inbounds i64, ptr %".1", i64 30
  %".62" = load i64, ptr %".61", align 8
  %".63" = getelementptr inbounds i64, ptr %".1", i64 31
  %".64" = load i64, ptr %".63", align 8
  %".65" = getelementptr inbounds i64, ptr %".1", i64 32
  %".66" = load i64, ptr %".65", align 8
  %".67" = alloca [260 x float], align 64
  %".68" = mul i64 %".2", %".58"
  %".69" = add i64 %".68", %".58"
  %".70" = icmp slt i64 %".69", %".38"
  %".71" = select  i1 %".70", i64 %".69", i64 %".38"
  br label %"loop"
loop:
  %".73" = phi  i64 [%".68", %"entry"], [%".455", %"after.5"]
  %".74" = phi  i64 [%".68", %"entry"], [%".261", %"after.5"]
  %".75" = icmp slt i64 %".73", %".71"
  br i1 %".75", label %"body", label %"after"
body:
  %".77" = udiv i64 %".73", %".42"
  %".78" = mul i64 %".77", %".42"
  %".79" = sub i64 %".73", %".78"
  %".80" = add i64 %".73", 2
  %".81" = sub i64 %".80", %".71"
  %".82" = add i64 %".79", 2
  %".83" = sub i64 %".82", %".66"
  %".84" = icmp sgt i64 %".81", %".83"
  %".85" = select  i1 %".84", i64 %".81", i64 %".83"
  %".86" = icmp sgt i64 %".85", 0
  %".87" = select  i1 %".86", i64 %".85", i64 0
  %".88" = sub i64 %".73", %".87"
  %".89" = icmp slt i64 %".79", %".66"
  %".90" = sub i64 %".79", %".87"
  %".91" = icmp sge i64 %".90", %".64"
  %".92" = and i1 %".89", %".91"
  %".93" = icmp sge i64 %".88", %".68"
  %".94" = and i1 %".92", %".93"
  %".95" = icmp sge i64 %".73", %".74"
  %".96" = and i1 %".94", %".95"
  br i1 %".96", label %"then", label %"else"
after:
  %".457" = mul i64 %".68", %".44"
  %".458" = mul i64 %".457", 5
  %".459" = sub i64 %".71", %".68"
  %".460" = mul i64 %".459", %".44"
  br label %"loop.8"
then:
  %".98" = udiv i64 %".88", %".42"
  %".99" = mul i64 %".98", %".42"
  %".100" = sub i64 %".88", %".99"
  %".101" = udiv i64 %".98", %".40"
  %".102" = mul i64 %".101", %".40"
  %".103" = sub i64 %".98", %".102"
  %".104" = mul i64 %".101", %".36"
  %".105" = getelementptr inbounds float, ptr %".6", i64 %".104"
  %".106" = mul i64 %".88", %".44"
  %".107" = add i64 %".46", 2
  %".108" = mul i64 %".103", %".107"
  %".109" = getelementptr inbounds i32, ptr %".14", i64 %".108"
  %".110" = add i64 %".48", 2
  %".111" = mul i64 %".100", %".110"
  %".112" = getelementptr inbounds i32, ptr %".16", i64 %".111"
  %".113" = sub i64 %".88", %".68"
  %".114" = mul i64 %".113", %".44"
  %".115" = load i32, ptr %".109", align 4
  %".116" = sext i32 %".115" to i64
  %".117" = load i32, ptr %".112", align 4
  %".118" = sext i32 %".117" to i64
  %".119" = getelementptr inbounds i32, ptr %".112", i64 1
  %".120" = load i32, ptr %".119", align 4
  %".121" = sext i32 %".120" to i64
  %".122" = add i64 %".116", %".118"
  %".123" = sub i64 %".121", %".118"
  %".124" = sub i64 %".44", 1
  br label %"loop.1"
else:
  br label %"after.1"
after.1:
  %".261" = phi  i64 [%".258", %"after.2"], [%".74", %"else"]
  %".262" = icmp slt i64 %".73", %".261"
  %".263" = udiv i64 %".73", %".42"
  %".264" = mul i64 %".263", %".42"
  %".265" = sub i64 %".73", %".264"
  %".266" = udiv i64 %".263", %".40"
  %".267" = mul i64 %".266", %".40"
  %".268" = sub i64 %".263", %".267"
  %".269" = mul i64 %".266", %".36"
  %".270" = getelementptr inbounds float, ptr %".6", i64 %".269"
  %".271" = mul i64 %".73", %".44"
  %".272" = add i64 %".46", 2
  %".273" = mul i64 %".268", %".272"
  %".274" = getelementptr inbounds i32, ptr %".14", i64 %".273"
  %".275" = add i64 %".48", 2
  %".276" = mul i64 %".265", %".275"
  %".277" = getelementptr inbounds i32, ptr %".16", i64 %".276"
  %".278" = sub i64 %".73", %".68"
  %".279" = mul i64 %".278", %".44"
  %".280" = sub i64 %".44", 1
  br label %"loop.3"
loop.1:
  %".126" = phi  i64 [0, %"then"], [%".256", %"after.3"]
  %".127" = icmp slt i64 %".126", %".44"
  br i1 %".127", label %"body.1", label %"after.2"
body.1:
  %".129" = icmp slt i64 %".126", %".124"
  %".130" = select  i1 %".129", i64 %".126", i64 %".124"
  %".131" = add i64 %".130", %".52"
  %".132" = add i64 %".122", %".131"
  %".133" = add i64 %".130", 1
  %".134" = icmp sle i64 %".133", %".56"
  %".135" = icmp sge i64 %".130", %".54"
  %".136" = and i1 %".135", %".134"
  br i1 %".136", label %"then.1", label %"after.3"
after.2:
  %".258" = add i64 %".88", 2
  br label %"after.1"
then.1:
  br label %"loop.2"
after.3:
  %".256" = add i64 %".126", 1
  br label %"loop.1"
loop.2:
  %".139" = phi  i64 [0, %"then.1"], [%".253", %"body.2"]
  %".140" = icmp slt i64 %".139", 4
  br i1 %".140", label %"body.2", label %"after.4"
body.2:
  %".142" = icmp slt i64 %".139", 0
  %".143" = select  i1 %".142", i64 %".139", i64 0
  %".144" = getelementptr inbounds float, ptr %".8", i64 %".143"
  %".145" = mul i64 %".123", 0
  %".146" = add i64 %".132", %".145"
  %".147" = mul i64 %".146", 4
  %".148" = add i64 %".147", %".143"
  %".149" = getelementptr inbounds float, ptr %".105", i64 %".148"
  %".150" = load <4 x float>, ptr %".144", align 4
  %".151" = load <4 x float>, ptr %".149", align 4
  %".152" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".151", <4 x float> %".150", <4 x float> splat (float              0x0))
  %".153" = getelementptr inbounds float, ptr %".144", i64 4
  %".154" = load <4 x float>, ptr %".153", align 4
  %".155" = getelementptr inbounds float, ptr %".149", i64 4
  %".156" = load <4 x float>, ptr %".155", align 4
  %".157" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".156", <4 x float> %".154", <4 x float> %".152")
  %".158" = getelementptr inbounds float, ptr %".144", i64 8
  %".159" = load <4 x float>, ptr %".158", align 4
  %".160" = getelementptr inbounds float, ptr %".149", i64 8
  %".161" = load <4 x float>, ptr %".160", align 4
  %".162" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".161", <4 x float> %".159", <4 x float> %".157")
  %".163" = add i64 %".132", %".123"
  %".164" = mul i64 %".163", 4
  %".165" = add i64 %".164", %".143"
  %".166" = getelementptr inbounds float, ptr %".105", i64 %".165"
  %".167" = getelementptr inbounds float, ptr %".144", i64 12
  %".168" = load <4 x float>, ptr %".167", align 4
  %".169" = load <4 x float>, ptr %".166", align 4
  %".170" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".169", <4 x float> %".168", <4 x float> %".162")
  %".171" = getelementptr inbounds float, ptr %".144", i64 16
  %".172" = load <4 x float>, ptr %".171", align 4
  %".173" = getelementptr inbounds float, ptr %".166", i64 4
  %".174" = load <4 x float>, ptr %".173", align 4
  %".175" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".174", <4 x float> %".172", <4 x float> %".170")
  %".176" = getelementptr inbounds float, ptr %".144", i64 20
  %".177" = load <4 x float>, ptr %".176", align 4
  %".178" = getelementptr inbounds float, ptr %".166", i64 8
  %".179" = load <4 x float>, ptr %".178", align 4
  %".180" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".179", <4 x float> %".177", <4 x float> %".175")
  %".181" = load <4 x float>, ptr %".144", align 4
  %".182" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".169", <4 x float> %".181", <4 x float> splat (float              0x0))
  %".183" = getelementptr inbounds float, ptr %".144", i64 4
  %".184" = load <4 x float>, ptr %".183", align 4
  %".185" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".174", <4 x float> %".184", <4 x float> %".182")
  %".186" = getelementptr inbounds float, ptr %".144", i64 8
  %".187" = load <4 x float>, ptr %".186", align 4
  %".188" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".179", <4 x float> %".187", <4 x float> %".185")
  %".189" = mul i64 %".123", 2
  %".190" = add i64 %".132", %".189"
  %".191" = mul i64 %".190", 4
  %".192" = add i64 %".191", %".143"
  %".193" = getelementptr inbounds float, ptr %".105", i64 %".192"
  %".194" = getelementptr inbounds float, ptr %".144", i64 24
  %".195" = load <4 x float>, ptr %".194", align 4
  %".196" = load <4 x float>, ptr %".193", align 4
  %".197" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".196", <4 x float> %".195", <4 x float> %".180")
  %".198" = getelementptr inbounds float, ptr %".144", i64 28
  %".199" = load <4 x float>, ptr %".198", align 4
  %".200" = getelementptr inbounds float, ptr %".193", i64 4
  %".201" = load <4 x float>, ptr %".200", align 4
  %".202" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".201", <4 x float> %".199", <4 x float> %".197")
  %".203" = getelementptr inbounds float, ptr %".144", i64 32
  %".204" = load <4 x float>, ptr %".203", align 4
  %".205" = getelementptr inbounds float, ptr %".193", i64 8
  %".206" = load <4 x float>, ptr %".205", align 4
  %".207" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".206", <4 x float> %".204", <4 x float> %".202")
  %".208" = getelementptr inbounds float, ptr %".144", i64 12
  %".209" = load <4 x float>, ptr %".208", align 4
  %".210" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".196", <4 x float> %".209", <4 x float> %".188")
  %".211" = getelementptr inbounds float, ptr %".144", i64 16
  %".212" = load <4 x float>, ptr %".211", align 4
  %".213" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".201", <4 x float> %".212", <4 x float> %".210")
  %".214" = getelementptr inbounds float, ptr %".144", i64 20
  %".215" = load <4 x float>, ptr %".214", align 4
  %".216" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".206", <4 x float> %".215", <4 x float> %".213")
  %".217" = mul i64 %".123", 3
  %".218" = add i64 %".132", %".217"
  %".219" = mul i64 %".218", 4
  %".220" = add i64 %".219", %".143"
  %".221" = getelementptr inbounds float, ptr %".105", i64 %".220"
  %".222" = getelementptr inbounds float, ptr %".144", i64 24
  %".223" = load <4 x float>, ptr %".222", align 4
  %".224" = load <4 x float>, ptr %".221", align 4
  %".225" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".224", <4 x float> %".223", <4 x float> %".216")
  %".226" = getelementptr inbounds float, ptr %".144", i64 28
  %".227" = load <4 x float>, ptr %".226", align 4
  %".228" = getelementptr inbounds float, ptr %".221", i64 4
  %".229" = load <4 x float>, ptr %".228", align 4
  %".230" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".229", <4 x float> %".227", <4 x float> %".225")
  %".231" = getelementptr inbounds float, ptr %".144", i64 32
  %".232" = load <4 x float>, ptr %".231", align 4
  %".233" = getelementptr inbounds float, ptr %".221", i64 8
  %".234" = load <4 x float>, ptr %".233", align 4
  %".235" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".234", <4 x float> %".232", <4 x float> %".230")
  %".236" = getelementptr inbounds float, ptr %".22", i64 %".143"
  %".237" = load <4 x float>, ptr %".236", align 4
  %".238" = mul i64 %".44", 0
  %".239" = add i64 %".114", %".238"
  %".240" = add i64 %".239", %".130"
  %".241" = mul i64 %".240", 4
  %".242" = add i64 %".241", %".143"
  %".243" = fadd <4 x float> %".207", %".237"
  %".244" = getelementptr inbounds float, ptr %".67", i64 %".242"
  store <4 x float> %".243", ptr %".244", align 4
  %".246" = add i64 %".114", %".44"
  %".247" = add i64 %".246", %".130"
  %".248" = mul i64 %".247", 4
  %".249" = add i64 %".248", %".143"
  %".250" = fadd <4 x float> %".235", %".237"
  %".251" = getelementptr inbounds float, ptr %".67", i64 %".249"
  store <4 x float> %".250", ptr %".251", align 4
  %".253" = add i64 %".139", 4
  br label %"loop.2"
after.4:
  br label %"after.3"
loop.3:
  %".282" = phi  i64 [0, %"after.1"], [%".453", %"after.6"]
  %".283" = icmp slt i64 %".282", %".44"
  br i1 %".283", label %"body.3", label %"after.5"
body.3:
  %".285" = icmp slt i64 %".282", %".280"
  %".286" = select  i1 %".285", i64 %".282", i64 %".280"
  %".287" = getelementptr inbounds i32, ptr %".20", i64 %".286"
  %".288" = add i64 %".286", 1
  %".289" = icmp sle i64 %".288", %".56"
  %".290" = icmp sge i64 %".286", %".54"
  %".291" = and i1 %".290", %".289"
  br i1 %".291", label %"then.2", label %"else.1"
after.5:
  %".455" = add i64 %".73", 1
  br label %"loop"
then.2:
  %".293" = xor i1 %".262", -1
  br i1 %".293", label %"then.3", label %"after.7"
else.1:
  br label %"loop.6"
after.6:
  %".453" = add i64 %".282", 1
  br label %"loop.3"
then.3:
  br label %"loop.4"
after.7:
  br label %"after.6"
loop.4:
  %".296" = phi  i64 [0, %"then.3"], [%".353", %"after.9"]
  %".297" = icmp slt i64 %".296", 4
  br i1 %".297", label %"body.4", label %"after.8"
body.4:
  %".299" = icmp slt i64 %".296", 0
  %".300" = select  i1 %".299", i64 %".296", i64 0
  %".301" = add i64 %".286", %".52"
  %".302" = add i64 %".50", 2
  %".303" = mul i64 %".286", %".302"
  %".304" = getelementptr inbounds i32, ptr %".18", i64 %".303"
  %".305" = load i32, ptr %".274", align 4
  %".306" = sext i32 %".305" to i64
  br label %"loop.5"
after.8:
  br label %"after.7"
loop.5:
  %".308" = phi  i64 [0, %"body.4"], [%".343", %"after.10"]
  %".309" = phi  <4 x float> [splat (float              0x0), %"body.4"], [%".342", %"after.10"]
  %".310" = icmp slt i64 %".308", %".48"
  br i1 %".310", label %"body.5", label %"after.9"
body.5:
  %".312" = getelementptr inbounds i32, ptr %".277", i64 %".308"
  %".313" = load i32, ptr %".312", align 4
  %".314" = sext i32 %".313" to i64
  %".315" = icmp slt i64 %".314", 0
  br i1 %".315", label %"then.4", label %"else.2"
after.9:
  %".345" = add i64 %".279", %".286"
  %".346" = mul i64 %".345", 4
  %".347" = add i64 %".346", %".300"
  %".348" = getelementptr inbounds float, ptr %".22", i64 %".300"
  %".349" = load <4 x float>, ptr %".348", align 4
  %".350" = fadd <4 x float> %".309", %".349"
  %".351" = getelementptr inbounds float, ptr %".67", i64 %".347"
  store <4 x float> %".350", ptr %".351", align 4
  %".353" = add i64 %".296", 4
  br label %"loop.4"
then.4:
  br label %"after.10"
else.2:
  %".318" = add i64 0, %".308"
  %".319" = mul i64 %".318", %".50"
  %".320" = add i64 %".306", %".314"
  %".321" = add i64 %".320", %".301"
  %".322" = mul i64 %".321", 4
  %".323" = add i64 %".322", %".300"
  %".324" = getelementptr inbounds float, ptr %".270", i64 %".323"
  %".325" = mul i64 %".319", 4
  %".326" = add i64 %".325", %".300"
  %".327" = getelementptr inbounds float, ptr %".8", i64 %".326"
  %".328" = load <4 x float>, ptr %".327", align 4
  %".329" = load <4 x float>, ptr %".324", align 4
  %".330" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".329", <4 x float> %".328", <4 x float> %".309")
  %".331" = getelementptr inbounds float, ptr %".327", i64 4
  %".332" = load <4 x float>, ptr %".331", align 4
  %".333" = getelementptr inbounds float, ptr %".324", i64 4
  %".334" = load <4 x float>, ptr %".333", align 4
  %".335" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".334", <4 x float> %".332", <4 x float> %".330")
  %".336" = getelementptr inbounds float, ptr %".327", i64 8
  %".337" = load <4 x float>, ptr %".336", align 4
  %".338" = getelementptr inbounds float, ptr %".324", i64 8
  %".339" = load <4 x float>, ptr %".338", align 4
  %".340" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".339", <4 x float> %".337", <4 x float> %".335")
  br label %"after.10"
after.10:
  %".342" = phi  <4 x float> [%".309", %"then.4"], [%".340", %"else.2"]
  %".343" = add i64 %".308", 1
  br label %"loop.5"
loop.6:
  %".358" = phi  i64 [0, %"else.1"], [%".450", %"after.12"]
  %".359" = icmp slt i64 %".358", 4
  br i1 %".359", label %"body.6", label %"after.11"
body.6:
  %".361" = icmp slt i64 %".358", 0
  %".362" = select  i1 %".361", i64 %".358", i64 0
  %".363" = add i64 %".50", 2
  %".364" = mul i64 %".286", %".363"
  %".365" = getelementptr inbounds i32, ptr %".18", i64 %".364"
  %".366" = load i32, ptr %".274", align 4
  %".367" = sext i32 %".366" to i64
  br label %"loop.7"
after.11:
  br label %"after.6"
loop.7:
  %".369" = phi  i64 [0, %"body.6"], [%".440", %"after.13"]
  %".370" = phi  <4 x float> [splat (float              0x0), %"body.6"], [%".439", %"after.13"]
  %".371" = icmp slt i64 %".369", %".48"
  br i1 %".371", label %"body.7", label %"after.12"
body.7:
  %".373" = getelementptr inbounds i32, ptr %".277", i64 %".369"
  %".374" = load i32, ptr %".373", align 4
  %".375" = sext i32 %".374" to i64
  %".376" = icmp slt i64 %".375", 0
  br i1 %".376", label %"then.5", label %"else.3"
after.12:
  %".442" = add i64 %".279", %".286"
  %".443" = mul i64 %".442", 4
  %".444" = add i64 %".443", %".362"
  %".445" = getelementptr inbounds float, ptr %".22", i64 %".362"
  %".446" = load <4 x float>, ptr %".445", align 4
  %".447" = fadd <4 x float> %".370", %".446"
  %".448" = getelementptr inbounds float, ptr %".67", i64 %".444"
  store <4 x float> %".447", ptr %".448", align 4
  %".450" = add i64 %".358", 4
  br label %"loop.6"
then.5:
  br label %"after.13"
else.3:
  %".379" = add i64 0, %".369"
  %".380" = mul i64 %".379", %".50"
  %".381" = add i64 %".367", %".375"
  %".382" = getelementptr inbounds i32, ptr %".287", i64 0
  %".383" = load i32, ptr %".382", align 4
  %".384" = sext i32 %".383" to i64
  %".385" = icmp slt i64 %".384", 0
  br i1 %".385", label %"then.6", label %"else.4"
after.13:
  %".439" = phi  <4 x float> [%".370", %"then.5"], [%".437", %"after.16"]
  %".440" = add i64 %".369", 1
  br label %"loop.7"
then.6:
  br label %"after.14"
else.4:
  %".388" = add i64 %".381", %".384"
  %".389" = mul i64 %".388", 4
  %".390" = add i64 %".389", %".362"
  %".391" = getelementptr inbounds float, ptr %".270", i64 %".390"
  %".392" = load <4 x float>, ptr %".391", align 4
  %".393" = mul i64 %".380", 4
  %".394" = add i64 %".393", %".362"
  %".395" = getelementptr inbounds float, ptr %".8", i64 %".394"
  %".396" = load <4 x float>, ptr %".395", align 4
  %".397" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".392", <4 x float> %".396", <4 x float> %".370")
  br label %"after.14"
after.14:
  %".399" = phi  <4 x float> [%".370", %"then.6"], [%".397", %"else.4"]
  %".400" = getelementptr inbounds i32, ptr %".287", i64 1
  %".401" = load i32, ptr %".400", align 4
  %".402" = sext i32 %".401" to i64
  %".403" = icmp slt i64 %".402", 0
  br i1 %".403", label %"then.7", label %"else.5"
then.7:
  br label %"after.15"
else.5:
  %".406" = add i64 %".381", %".402"
  %".407" = mul i64 %".406", 4
  %".408" = add i64 %".407", %".362"
  %".409" = getelementptr inbounds float, ptr %".270", i64 %".408"
  %".410" = load <4 x float>, ptr %".409", align 4
  %".411" = mul i64 %".380", 4
  %".412" = add i64 %".411", %".362"
  %".413" = getelementptr inbounds float, ptr %".8", i64 %".412"
  %".414" = getelementptr inbounds float, ptr %".413", i64 4
  %".415" = load <4 x float>, ptr %".414", align 4
  %".416" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".410", <4 x float> %".415", <4 x float> %".399")
  br label %"after.15"
after.15:
  %".418" = phi  <4 x float> [%".399", %"then.7"], [%".416", %"else.5"]
  %".419" = getelementptr inbounds i32, ptr %".287", i64 2
  %".420" = load i32, ptr %".419", align 4
  %".421" = sext i32 %".420" to i64
  %".422" = icmp slt i64 %".421", 0
  br i1 %".422", label %"then.8", label %"else.6"
then.8:
  br label %"after.16"
else.6:
  %".425" = add i64 %".381", %".421"
  %".426" = mul i64 %".425", 4
  %".427" = add i64 %".426", %".362"
  %".428" = getelementptr inbounds float, ptr %".270", i64 %".427"
  %".429" = load <4 x float>, ptr %".428", align 4
  %".430" = mul i64 %".380", 4
  %".431" = add i64 %".430", %".362"
  %".432" = getelementptr inbounds float, ptr %".8", i64 %".431"
  %".433" = getelementptr inbounds float, ptr %".432", i64 8
  %".434" = load <4 x float>, ptr %".433", align 4
  %".435" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".429", <4 x float> %".434", <4 x float> %".418")
  br label %"after.16"
after.16:
  %".437" = phi  <4 x float> [%".418", %"then.8"], [%".435", %"else.6"]
  br label %"after.13"
loop.8:
  %".462" = phi  i64 [0, %"after"], [%".608", %"after.18"]
  %".463" = icmp slt i64 %".462", 2
  br i1 %".463", label %"body.8", label %"after.17"
body.8:
  br label %"loop.9"
after.17:
  ret void
loop.9:
  %".466" = phi  i64 [0, %"body.8"], [%".606", %"after.20"]
  %".467" = icmp slt i64 %".466", %".460"
  br i1 %".467", label %"body.9", label %"after.18"
body.9:
  %".469" = sub i64 %".466", 0
  %".470" = mul i64 %".469", 4
  %".471" = add i64 0, %".462"
  br label %"loop.10"
after.18:
  %".608" = add i64 %".462", 1
  br label %"loop.8"
loop.10:
  %".473" = phi  i64 [0, %"body.9"], [%".537", %"body.10"]
  %".474" = phi  <4 x float> [splat (float              0x0), %"body.9"], [%".531", %"body.10"]
  %".475" = phi  <4 x float> [splat (float              0x0), %"body.9"], [%".536", %"body.10"]
  %".476" = icmp slt i64 %".473", 1
  br i1 %".476", label %"body.10", label %"after.19"
body.10:
  %".478" = mul i64 %".466", 4
  %".479" = getelementptr inbounds float, ptr %".67", i64 %".478"
  %".480" = getelementptr inbounds float, ptr %".479", i64 4
  %".481" = add i64 %".471", %".473"
  %".482" = mul i64 %".481", 4
  %".483" = mul i64 %".482", 4
  %".484" = getelementptr inbounds float, ptr %".28", i64 %".483"
  %".485" = mul i64 0, 4
  %".486" = getelementptr inbounds float, ptr %".484", i64 %".485"
  %".487" = load <4 x float>, ptr %".486", align 4
  %".488" = getelementptr inbounds float, ptr %".479", i64 0
  %".489" = load float, ptr %".488", align 4
  %".490" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".489", i32 0
  %".491" = shufflevector <4 x float> %".490", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".492" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".491", <4 x float> %".487", <4 x float> %".474")
  %".493" = getelementptr inbounds float, ptr %".480", i64 0
  %".494" = load float, ptr %".493", align 4
  %".495" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".494", i32 0
  %".496" = shufflevector <4 x float> %".495", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".497" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".496", <4 x float> %".487", <4 x float> %".475")
  %".498" = mul i64 1, 4
  %".499" = getelementptr inbounds float, ptr %".484", i64 %".498"
  %".500" = load <4 x float>, ptr %".499", align 4
  %".501" = getelementptr inbounds float, ptr %".479", i64 1
  %".502" = load float, ptr %".501", align 4
  %".503" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".502", i32 0
  %".504" = shufflevector <4 x float> %".503", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".505" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".504", <4 x float> %".500", <4 x float> %".492")
  %".506" = getelementptr inbounds float, ptr %".480", i64 1
  %".507" = load float, ptr %".506", align 4
  %".508" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".507", i32 0
  %".509" = shufflevector <4 x float> %".508", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".510" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".509", <4 x float> %".500", <4 x float> %".497")
  %".511" = mul i64 2, 4
  %".512" = getelementptr inbounds float, ptr %".484", i64 %".511"
  %".513" = load <4 x float>, ptr %".512", align 4
  %".514" = getelementptr inbounds float, ptr %".479", i64 2
  %".515" = load float, ptr %".514", align 4
  %".516" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".515", i32 0
  %".517" = shufflevector <4 x float> %".516", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".518" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".517", <4 x float> %".513", <4 x float> %".505")
  %".519" = getelementptr inbounds float, ptr %".480", i64 2
  %".520" = load float, ptr %".519", align 4
  %".521" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".520", i32 0
  %".522" = shufflevector <4 x float> %".521", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".523" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".522", <4 x float> %".513", <4 x float> %".510")
  %".524" = mul i64 3, 4
  %".525" = getelementptr inbounds float, ptr %".484", i64 %".524"
  %".526" = load <4 x float>, ptr %".525", align 4
  %".527" = getelementptr inbounds float, ptr %".479", i64 3
  %".528" = load float, ptr %".527", align 4
  %".529" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".528", i32 0
  %".530" = shufflevector <4 x float> %".529", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".531" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".530", <4 x float> %".526", <4 x float> %".518")
  %".532" = getelementptr inbounds float, ptr %".480", i64 3
  %".533" = load float, ptr %".532", align 4
  %".534" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".533", i32 0
  %".535" = shufflevector <4 x float> %".534", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".536" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".535", <4 x float> %".526", <4 x float> %".523")
  %".537" = add i64 %".473", 1
  br label %"loop.10"
after.19:
  %".539" = mul i64 %".462", 4
  %".540" = mul i64 0, 4
  %".541" = add i64 %".540", %".539"
  %".542" = icmp eq i64 %".462", 1
  br i1 %".542", label %"then.9", label %"else.7"
then.9:
  %".544" = icmp slt i64 %".466", %".460"
  br i1 %".544", label %"then.10", label %"after.21"
else.7:
  %".578" = icmp slt i64 %".466", %".460"
  br i1 %".578", label %"then.12", label %"after.23"
after.20:
  %".606" = add i64 %".466", 2
  br label %"loop.9"
then.10:
  %".546" = udiv i64 %".466", 1
  %".547" = sub i64 %".466", %".546"
  %".548" = mul i64 %".546", 5
  %".549" = add i64 %".458", %".548"
  %".550" = add i64 %".549", %".539"
  %".551" = getelementptr inbounds float, ptr %".34", i64 %".550"
  %".552" = load <1 x float>, ptr %".551", align 4
  %".553" = shufflevector <1 x float> %".552", <1 x float> <float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".554" = shufflevector <4 x float> <float              0x0, float              0x0, float              0x0, float              0x0>, <4 x float> %".553", <4 x i32> <i32 4, i32 1, i32 2, i32 3>
  %".555" = fadd <4 x float> %".474", %".554"
  %".556" = getelementptr inbounds float, ptr %".10", i64 %".550"
  %".557" = shufflevector <4 x float> %".555", <4 x float> <float undef, float undef, float undef, float undef>, <1 x i32> <i32 0>
  store <1 x float> %".557", ptr %".556", align 4
  br label %"after.21"
after.21:
  %".560" = add i64 %".466", 1
  %".561" = icmp slt i64 %".560", %".460"
  br i1 %".561", label %"then.11", label %"after.22"
then.11:
  %".563" = udiv i64 %".560", 1
  %".564" = sub i64 %".560", %".563"
  %".565" = mul i64 %".563", 5
  %".566" = add i64 %".458", %".565"
  %".567" = add i64 %".566", %".539"
  %".568" = getelementptr inbounds float, ptr %".34", i64 %".567"
  %".569" = load <1 x float>, ptr %".568", align 4
  %".570" = shufflevector <1 x float> %".569", <1 x float> <float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".571" = shufflevector <4 x float> <float              0x0, float              0x0, float              0x0, float              0x0>, <4 x float> %".570", <4 x i32> <i32 4, i32 1, i32 2, i32 3>
  %".572" = fadd <4 x float> %".475", %".571"
  %".573" = getelementptr inbounds float, ptr %".10", i64 %".567"
  %".574" = shufflevector <4 x float> %".572", <4 x float> <float undef, float undef, float undef, float undef>, <1 x i32> <i32 0>
  store <1 x float> %".574", ptr %".573", align 4
  br label %"after.22"
after.22:
  br label %"after.20"
then.12:
  %".580" = udiv i64 %".466", 1
  %".581" = sub i64 %".466", %".580"
  %".582" = mul i64 %".580", 5
  %".583" = add i64 %".458", %".582"
  %".584" = add i64 %".583", %".539"
  %".585" = getelementptr inbounds float, ptr %".34", i64 %".584"
  %".586" = load <4 x float>, ptr %".585", align 4
  %".587" = fadd <4 x float> %".474", %".586"
  %".588" = getelementptr inbounds float, ptr %".10", i64 %".584"
  store <4 x float> %".587", ptr %".588", align 4
  br label %"after.23"
after.23:
  %".591" = add i64 %".466", 1
  %".592" = icmp slt i64 %".591", %".460"
  br i1 %".592", label %"then.13", label %"after.24"
then.13:
  %".594" = udiv i64 %".591", 1
  %".595" = sub i64 %".591", %".594"
  %".596" = mul i64 %".594", 5
  %".597" = add i64 %".458", %".596"
  %".598" = add i64 %".597", %".539"
  %".599" = getelementptr inbounds float, ptr %".34", i64 %".598"
  %".600" = load <4 x float>, ptr %".599", align 4
  %".601" = fadd <4 x float> %".475", %".600"
  %".602" = getelementptr inbounds float, ptr %".10", i64 %".598"
  store <4 x float> %".601", ptr %".602", align 4
  br label %"after.24"
after.24:
  br label %"after.20"
}

declare <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".1", <4 x float> %".2", <4 x float> %".3")

define void @"share"(ptr %".1")
{
entry:
  %".3" = load ptr, ptr %".1", align 8
  %".4" = getelementptr inbounds i64, ptr %".1", i64 1
  %".5" = load i64, ptr %".4", align 8
  %".6" = load ptr, ptr %".3", align 8
  %".7" = getelementptr inbounds i64, ptr %".1", i64 2
  %".8" = getelementptr inbounds ptr, ptr %".6", i64 1
  %".9" = load ptr, ptr %".8", align 8
  %".10" = icmp eq i64 %".5", 1
  %".11" = ptrtoint ptr %".9" to i64
  %".12" = icmp ne i64 %".11", 0
  br i1 %".10", label %"then", label %"else"
then:
  br label %"after"
else:
  br i1 %".12", label %"then.1", label %"else.1"
after:
  %".23" = phi  i64 [0, %"then"], [%".21", %"after.1"]
  br label %"loop"
then.1:
  %".16" = call i32 %".9"()
  %".17" = sext i32 %".16" to i64
  br label %"after.1"
else.1:
  %".19" = atomicrmw add ptr %".7", i64 1 monotonic
  br label %"after.1"
after.1:
  %".21" = phi  i64 [%".17", %"then.1"], [%".19", %"else.1"]
  br label %"after"
loop:
  %".25" = phi  i64 [0, %"after"], [%".43", %"done"]
  %".26" = icmp slt i64 %".25", %".5"
  br i1 %".26", label %"body", label %"after.2"
body:
  %".28" = add i64 %".23", %".25"
  %".29" = icmp slt i64 %".28", %".5"
  %".30" = sub i64 %".28", %".5"
  %".31" = select  i1 %".29", i64 %".28", i64 %".30"
  %".32" = add i64 %".31", 1
  %".33" = mul i64 %".32", 8
  %".34" = getelementptr inbounds i64, ptr %".1", i64 %".33"
  %".35" = getelementptr inbounds i64, ptr %".34", i64 1
  %".36" = load i64, ptr %".35", align 8
  br label %"next"
after.2:
  ret void
next:
  %".38" = atomicrmw add ptr %".34", i64 1 monotonic
  %".39" = icmp slt i64 %".38", %".36"
  br i1 %".39", label %"work", label %"done"
work:
  call void @"task"(ptr %".3", i64 %".38", i64 %".23")
  br label %"next"
done:
  %".43" = add i64 %".25", 1
  br label %"loop"
}

define void @"run"(ptr %".1", i64 %".2")
{
entry:
  %".4" = icmp sgt i64 %".2", 1
  %".5" = select  i1 %".4", i64 %".2", i64 1
  %".6" = add i64 %".5", 1
  %".7" = mul i64 %".6", 8
  %".8" = alloca i64, i64 %".7", align 64
  store ptr %".1", ptr %".8", align 8
  %".10" = getelementptr inbounds i64, ptr %".8", i64 1
  store i64 %".5", ptr %".10", align 8
  %".12" = getelementptr inbounds i64, ptr %".8", i64 2
  store i64 0, ptr %".12", align 8
  %".14" = getelementptr inbounds i64, ptr %".1", i64 1
  %".15" = load i64, ptr %".14", align 8
  br label %"loop"
loop:
  %".17" = phi  i64 [0, %"entry"], [%".32", %"body"]
  %".18" = phi  i64 [0, %"entry"], [%".23", %"body"]
  %".19" = icmp slt i64 %".17", %".5"
  br i1 %".19", label %"body", label %"after"
body:
  %".21" = add i64 %".17", 1
  %".22" = mul i64 %".15", %".21"
  %".23" = udiv i64 %".22", %".5"
  %".24" = mul i64 %".23", %".5"
  %".25" = sub i64 %".22", %".24"
  %".26" = add i64 %".17", 1
  %".27" = mul i64 %".26", 8
  %".28" = getelementptr inbounds i64, ptr %".8", i64 %".27"
  store i64 %".18", ptr %".28", align 8
  %".30" = getelementptr inbounds i64, ptr %".28", i64 1
  store i64 %".23", ptr %".30", align 8
  %".32" = add i64 %".17", 1
  br label %"loop"
after:
  %".34" = icmp eq i64 %".5", 1
  br i1 %".34", label %"then", label %"else"
then:
  call void @"share"(ptr %".8")
  br label %"after.1"
else:
  %".38" = load ptr, ptr %".1", align 8
  %".39" = load ptr, ptr %".38", align 8
  %".40" = trunc i64 %".5" to i32
  call void %".39"(ptr @"share", ptr %".8", i32 %".40", i32 0)
  br label %"after.1"
after.1:
  ret void
}
